// Unit and integration tests of every package; each *.test.ts stands beside what it tests, those of whole daemons in
// e2e/tests. They run as root against the real kernel, four files at a time: each names its own directories, cgroups,
// namespaces, bridge and subnet, and looks for no others.
import { globSync, readFileSync } from "node:fs";
import { configDefaults, defineConfig } from "vitest/config";

const folders = "{cri,pod,image,cni,native,e2e}";

/**
 * What measures times, stalls, memory or throughput, or uses up what the host has. These run after the others. The
 * monitor's enter: 127 processes join one cgroup before its limit, 0.4 s alone, 10 s where others make cgroups too.
 */
const alone = [
  "cri/api/lists.test.ts",
  "e2e/fixtures/host-state.test.ts",
  "e2e/tests/{enter-pace,exhausted}.test.ts",
  "image/{bounds,file-digest}.test.ts",
  "native/monitor/test/enter.test.ts",
  "pod/spec/accounts.test.ts",
];
/** The longest, mostly waiting: begun last, as their size would have it, each would end long behind the others. */
const first = ["native/monitor/test/deadlines.test.ts", "e2e/tests/{enter,exec-output,play,play-manifests}.test.ts"];
/** What replaces a module does so for every file of its worker: it must not share one. */
const replacing = globSync(`${folders}/**/*.test.ts`).filter((file) => readFileSync(file, "utf8").includes("vi.mock("));
const outside = [...configDefaults.exclude, "native/build/**"];

export default defineConfig({
  test: {
    pool: "forks",
    // So that what takes 17 s on a quiet machine does not fail on one at work; what hangs ends all the same.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 10_000 } },
    globalSetup: ["native/testing/crun-host.ts", "e2e/fixtures/compile-cache.ts", "e2e/fixtures/scratch.ts"],
    // Of a file that marks its tests, which wait more than they work.
    maxConcurrency: 3,
    projects: [
      {
        extends: true,
        test: {
          // Of one group Vitest begins with the project whose name is first.
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
          // A worker keeps the modules that its files share; a file by itself would load them again, a quarter of a second each.
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
