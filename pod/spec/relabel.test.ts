// Which volumes are relabelled, and which host paths never are. The walk itself is tested in
// native/addon/test/relabel_test.cc.

import { execFileSync } from "node:child_process";
import { renameSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { loadHost, readMountTable } from "../../native/index.ts";
import type { Mount } from "../types.ts";
import { Relabelling } from "./relabel.ts";

let directory: string;
let asked: string[];
const label = "system_u:object_r:container_file_t:s0:c1,c2";
const confined = { process: "system_u:system_r:container_t:s0:c1,c2", mount: label };
const host = loadHost();

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-relabel-"));
});
beforeEach(() => {
  asked = [];
});
afterAll(() => rm(directory, { recursive: true }));

const relabelling = new Relabelling({
  hasLabel: async (path) => path.endsWith("labelled"),
  relabelTree: async (path, wanted) => {
    asked.push(`${path} ${wanted}`);
    return 1n;
  },
});
const mount = (hostPath: string, selinuxRelabel = true): Mount => ({
  containerPath: "/data",
  hostPath,
  readonly: false,
  selinuxRelabel,
  propagation: "private",
  uidMappings: [],
  gidMappings: [],
  recursiveReadOnly: false,
  imageSubPath: "",
  mountOptions: [],
});

test("requested mounts get the container's label; nothing else does", async () => {
  const volume = join(directory, "volume");
  await relabelling.for(confined)(mount(volume), volume, readMountTable);
  expect(asked).toEqual([`${volume} ${label}`]);
  await relabelling.for(confined)(mount(volume, false), volume, readMountTable);
  await relabelling.for({})(mount(volume), volume, readMountTable);
  await relabelling.for({ mount: label })(mount(volume), volume, readMountTable);
  await relabelling.for({ ...confined, process: "system_u:system_r:spc_t:s0" })(mount(volume), volume, readMountTable);
  expect(asked).toHaveLength(1);
});

test("the host's system directories are refused by path, by what is below them, and by identity", async () => {
  const home = join(directory, "home");
  await mkdir(home);
  const below = ["/usr/share/doc", "/boot/x", "/dev/shm", "/proc/1", "/sys/fs", "/etc", "/home", "/", "/var/lib"];
  const alias = join(directory, "alias");
  await mkdir(alias);
  execFileSync("mount", ["--bind", "/", alias]);
  onTestFinished(async () => {
    await host.unmount(alias);
  });
  for (const path of [...below, alias, `${alias}/etc`, `${alias}/usr/share`, `${alias}/var/lib`])
    await expect(relabelling.for(confined)(mount(path), path, readMountTable), path).rejects.toMatchObject({
      code: "InvalidArgument",
      message: expect.stringContaining("the path belongs to the host"),
    });
  expect(asked).toEqual([]);
  for (const path of [home, "/usrdata"]) await relabelling.for(confined)(mount(path), path, readMountTable);
  expect(asked).toHaveLength(2);
});

test("a failed walk is reported with its mount", async () => {
  const missing = join(directory, "missing");
  await expect(new Relabelling(host).for(confined)(mount(missing), missing, readMountTable)).rejects.toMatchObject({
    name: "selinuxRelabel",
    code: "FailedPrecondition",
    message: expect.stringMatching(/The mount of .*missing at \/data cannot get the SELinux label .*No such file/),
  });
});

test("the walk follows no link, even if one is swapped in meanwhile (CVE-2021-43816)", async () => {
  const [volume, outside] = [join(directory, "swapped"), join(directory, "outside")];
  await mkdir(join(volume, "real"), { recursive: true });
  await mkdir(outside);
  const kept = join(outside, "kept");
  await writeFile(kept, "");
  await writeFile(join(volume, "real/kept"), "");
  await symlink(outside, join(volume, "link"));
  const swaps = [
    ["real", "aside"],
    ["link", "real"],
    ["aside", "link"],
  ] as const;
  for (let round = 0; round < 100; round += 1) {
    const level = `s0:c${round}`;
    const walk = new Relabelling(host).for({ ...confined, mount: `u:object_r:container_file_t:${level}` });
    // The walk may fail because a directory has become a symlink meanwhile; then it is retried.
    const walking = walk(mount(volume), volume, readMountTable).catch((error: unknown) =>
      expect(String(error)).toContain("cannot get"),
    );
    for (const [from, to] of swaps) renameSync(join(volume, from), join(volume, to));
    await walking;
    expect(await host.relabelTree(kept, "u:object_r:seen_t:s0", 1n, 1)).toBe(round === 0 ? 1n : 0n);
  }
});

test("at most two walks run at once; a volume that already has its label does not wait", async () => {
  let [now, most] = [0, 0];
  const walked = Promise.withResolvers<void>();
  const slow = new Relabelling({
    hasLabel: async (path) => path.endsWith("labelled"),
    relabelTree: async () => {
      now += 1;
      most = Math.max(most, now);
      await walked.promise;
      now -= 1;
      return 0n;
    },
  });
  const volumes = ["a", "b", "c", "d", "e"].map((name) => join(directory, name));
  const walks = volumes.map((volume) => slow.for(confined)(mount(volume), volume, readMountTable));
  // Overtakes the waiting ones.
  const labelled = join(directory, "labelled");
  await slow.for(confined)(mount(labelled), labelled, readMountTable);
  await expect.poll(() => now).toBe(2);
  walked.resolve();
  await Promise.all(walks);
  expect(most).toBe(2);
});
