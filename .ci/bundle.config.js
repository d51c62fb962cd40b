// What `keelson` runs, out of dist/ and into it, as a few files: each file of the 300 that are looked for one by one makes a
// start longer, by 150 ms of processor time in all.
//
// The packages that every start of the daemon loads go into them; those that it may never need stay packages.
// Where code asks for its own place (import.meta.url), it is left in it: file-digest.js starts a worker of itself,
// paths.js leads to the native parts.

const loadedAtStart = new Set([
  "@grpc/grpc-js",
  "@js-sdsl/ordered-map",
  "ip-address",
  "long",
  "protobufjs/minimal.js",
  "smol-toml",
  "ws",
]);

// V8 keeps a text of which one character is beyond Latin-1 with two bytes for each. Here the text is what is written: after
// renderChunk literals are printed once more.
const oneByte = {
  name: "one-byte",
  generateBundle(_options, bundle) {
    for (const chunk of Object.values(bundle)) if (chunk.type === "chunk") chunk.code = escaped(chunk.code);
  },
};

function escaped(code) {
  // Behind a backslash an escape would be another text.
  const [behind] = /.*\\[^\0-\xff].*/.exec(code) ?? [];
  if (behind !== undefined) throw new Error(`no backslash may stand before a character beyond Latin-1: ${behind}`);
  return code.replace(/[^\0-\xff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export default {
  input: { "cri/cli/main": "dist/cri/cli/main.js", "image/file-digest": "dist/image/file-digest.js" },
  platform: "node",
  external: (id) => (/^[a-z@]/.test(id) && !loadedAtStart.has(id)) || id.endsWith("/paths.js"),
  plugins: [oneByte],
  output: {
    dir: "dist",
    entryFileNames: "[name].js",
    chunkFileNames: "cri/cli/[name]-[hash].js",
    // The text stays in memory. Lines stay too, for stack traces.
    comments: false,
  },
};
