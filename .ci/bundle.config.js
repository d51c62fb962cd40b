// Bundles the modules of `keelson` in dist/ into a few files, in place: resolving 300 files one by one adds 150 ms of
// CPU time to a start.
//
// Packages that every start of the daemon loads are bundled too; others, which it may never need, stay separate.
// Modules that use their own location (import.meta.url) keep it: file-digest.js starts a worker from its own file,
// paths.js locates the native parts.

const loadedAtStart = new Set([
  "@grpc/grpc-js",
  "@js-sdsl/ordered-map",
  "ip-address",
  "long",
  "protobufjs/minimal.js",
  "smol-toml",
  "ws",
]);

// V8 stores a source with a single character beyond Latin-1 in two bytes per character. Escape these in the final
// text: in renderChunk it would be too early, as literals are printed again after it.
const oneByte = {
  name: "one-byte",
  generateBundle(_options, bundle) {
    for (const chunk of Object.values(bundle)) if (chunk.type === "chunk") chunk.code = escaped(chunk.code);
  },
};

function escaped(code) {
  // After a backslash, an escape would change the text.
  const [behind] = /.*\\[^\0-\xff].*/.exec(code) ?? [];
  if (behind !== undefined) throw new Error(`a backslash must not precede a character beyond Latin-1: ${behind}`);
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
    // The source text stays in memory, so comments are dropped. Line breaks are kept for stack traces.
    comments: false,
  },
};
