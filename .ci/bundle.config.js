// What `keelson` runs, out of dist/ and into it, as a few files: of 200 modules that are looked for one by one a start
// takes 100 ms of processor time longer. Packages stay packages.
//
// Where code asks for its own place (import.meta.url), it is left in it: file-digest.js starts a worker of itself,
// paths.js leads to the native parts.

export default {
  input: { "cri/cli/main": "dist/cri/cli/main.js", "image/file-digest": "dist/image/file-digest.js" },
  platform: "node",
  external: (id) => /^[a-z@]/.test(id) || id.endsWith("/paths.js"),
  output: { dir: "dist", entryFileNames: "[name].js", chunkFileNames: "cri/cli/[name]-[hash].js" },
};
