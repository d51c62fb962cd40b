// Imports point one way: cri → pod and image → cni, native. e2e may see everything; tests are part of their package.
const may = {
  native: ["native"],
  cni: ["cni", "native"],
  image: ["image", "native"],
  pod: ["pod", "image", "cni", "native"],
  cri: ["cri", "pod", "image", "cni", "native"],
};

module.exports = {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    { name: "no-orphans-in-types", severity: "error", from: {}, to: { couldNotResolve: true } },
    ...Object.entries(may).map(([from, allowed]) => ({
      name: `${from}-imports-only-${allowed.join("-")}`,
      severity: "error",
      from: { path: `^${from}/` },
      to: { path: `^(cri|pod|cni|image|native|e2e)/`, pathNot: `^(${allowed.join("|")})/` },
    })),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^(native/build|cri/generated)" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".d.ts"] },
  },
};
