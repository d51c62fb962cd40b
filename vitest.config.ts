// Unit and integration tests of every package; each *.test.ts stands beside what it tests, those of whole daemons in
// e2e/tests. They run as root against the real kernel.
import { configDefaults, defineConfig } from "vitest/config";

/** What changes mounts, cgroups, namespaces or other things of the host, or measures times and stalls. */
const alone = [
  "{cni,native,e2e}/**/*.test.ts",
  "cri/cli/**/*.test.ts",
  "cri/api/{lists,socket}.test.ts",
  "image/{bounds,durability,file-digest}.test.ts",
  "pod/{cgroups,handlers}.test.ts",
  "pod/spec/{accounts,seccomp-default}.test.ts",
];

export default defineConfig({
  test: {
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: "side by side",
          include: ["{cri,pod,image}/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...alone],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          globalSetup: "e2e/fixtures/compile-cache.ts",
          include: alone,
          exclude: [...configDefaults.exclude, "native/build/**"],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
