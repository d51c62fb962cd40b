// Unit and integration tests of every package; each *.test.ts is next to the code that it tests, tests of complete daemons are
// in e2e/tests. They run as root against the real kernel, four files at a time: each uses its own directories, cgroups,
// namespaces, bridge and subnet.
import { globSync, readFileSync } from "node:fs";
import { configDefaults, defineConfig } from "vitest/config";

const folders = "{cri,pod,image,cni,native,e2e}";

/**
 * Tests that measure times, stalls, memory or throughput, or exhaust host resources. They run after the others. In the
 * monitor's enter, 127 processes join one cgroup before its limit: 0.4 s alone, 10 s while others create cgroups too.
 */
const alone = [
  "cri/api/lists.test.ts",
  "e2e/fixtures/host-state.test.ts",
  "e2e/tests/{enter-pace,exhausted}.test.ts",
  "image/{bounds,file-digest}.test.ts",
  "native/monitor/test/enter.test.ts",
  "pod/spec/accounts.test.ts",
];
/** The longest, which mostly wait. By file size they would start last, and finish long after the others. */
const first = ["native/monitor/test/deadlines.test.ts", "e2e/tests/{enter,exec-output,play,play-manifests}.test.ts"];
/** A file that mocks a module does so for every file of its worker, so it must not share one. */
const replacing = globSync(`${folders}/**/*.test.ts`).filter((file) => readFileSync(file, "utf8").includes("vi.mock("));
const outside = [...configDefaults.exclude, "native/build/**"];

export default defineConfig({
  test: {
    pool: "forks",
    // So that a test that takes 17 s on an idle machine does not fail on a busy one; a hanging test still ends.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 10_000 } },
    globalSetup: ["native/testing/crun-host.ts", "e2e/fixtures/compile-cache.ts", "e2e/fixtures/scratch.ts"],
    // For files with concurrent tests, which mostly wait.
    maxConcurrency: 3,
    projects: [
      {
        extends: true,
        test: {
          // Within a group, Vitest starts with the project whose name sorts first.
          name: "first",
          include: [...first, ...replacing],
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "side by side",
          // A worker keeps the modules that its files share; an isolated file would load them again, in a quarter of a second.
          isolate: false,
          include: [`${folders}/**/*.test.ts`],
          exclude: [...outside, ...first, ...replacing, ...alone],
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "alone",
          include: alone,
          exclude: outside,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
