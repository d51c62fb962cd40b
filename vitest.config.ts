// Unit and integration tests of every package; each *.test.ts stands beside what it tests.
// They run as root against the real kernel, one file at a time: mounts, cgroups and namespaces are the host's.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{cri,pod,cni,image,native,e2e}/**/*.test.ts"],
    exclude: ["native/build/**"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 120_000,
  },
});
