// Which of a host's devices a container gets: nodes in a directory of the test.

import { execFileSync } from "node:child_process";
import { chmod, chown, link, mkdir, mkdtemp, realpath, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { containerConfig } from "../testing/configs.ts";
import type { Device } from "../types.ts";
import { planDevices } from "./devices.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-devices-"));
});
afterEach(async () => await rm(directory, { recursive: true }));

async function makeNodes(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await mkdir(join(directory, name, ".."), { recursive: true });
    execFileSync("mknod", [join(directory, name), "c", "1", "3"]);
  }
}

const hostPaths = { ofDevice: async (path: string) => await realpath(path) };
const config = containerConfig("c", "img", []);

async function privileged(ownUsers = false, asked: readonly Device[] = []) {
  const privileged = { ...config, devices: asked, security: { ...config.security, privileged: true } };
  return (await planDevices(privileged, ownUsers, hostPaths, directory)).devices;
}

async function privilegedPaths(): Promise<string[]> {
  return (await privileged()).map(({ path }) => path).toSorted();
}

test("a privileged container gets all host devices, also in subdirectories, except those it has its own copy of", async () => {
  await makeNodes("null", "snd/seq", "net/deep/er/tun", "pts/0", "shm/null", "mqueue/null", "console", "ptmx", "tty");
  expect(await privilegedPaths()).toEqual(["/dev/net/deep/er/tun", "/dev/null", "/dev/snd/seq"]);
});

test("directories that any user creates in /dev/shm do not affect a privileged container's devices", async () => {
  await makeNodes("null");
  await mkdir(join(directory, "shm"));
  // Deeper than the maximum path length.
  const deeper = "while mkdir $1 && cd $1; do :; done 2>/dev/null; true";
  execFileSync("sh", ["-c", deeper, "sh", "d".repeat(250)], { cwd: join(directory, "shm") });
  try {
    expect(await privilegedPaths()).toEqual(["/dev/null"]);
  } finally {
    execFileSync("rm", ["-r", join(directory, "shm")]);
  }
});

test("a privileged container with a user namespace gets only devices that everybody may read and write", async () => {
  await makeNodes("null", "disk", "readable");
  await chmod(join(directory, "null"), 0o666);
  await chmod(join(directory, "readable"), 0o664);
  await chmod(join(directory, "disk"), 0o660);
  expect((await privileged(true)).map(({ path, fileMode }) => [path, fileMode])).toEqual([["/dev/null", 0o666]]);
});

test("a requested device replaces the host's at that path", async () => {
  await makeNodes("sda", "volume");
  await chmod(join(directory, "volume"), 0o606);
  const asked = [{ hostPath: join(directory, "volume"), containerPath: "/dev/sda", permissions: "r" }];
  const devices = await privileged(false, asked);
  expect(devices.filter(({ path }) => path === "/dev/sda")).toMatchObject([{ fileMode: 0o606 }]);
});

test("a device is the link's target, has the node's owner and mode, and without another path its own", async () => {
  const [node, name] = [join(directory, "node"), join(directory, "name")];
  execFileSync("mknod", [node, "c", "1", "3"]);
  await chown(node, 7, 8);
  await chmod(node, 0o1640);
  await symlink("node", name);
  const asked = [
    { hostPath: name, containerPath: "", permissions: "" },
    { hostPath: name, containerPath: "/dev//a/../b/", permissions: "" },
  ];
  const { devices } = await planDevices({ ...config, devices: asked }, false, hostPaths);
  const same = { type: "c", major: 1, minor: 3, fileMode: 0o1640, uid: 7, gid: 8 };
  expect(devices).toEqual([
    { path: name, ...same },
    { path: "/dev/b", ...same },
  ]);
});

test("of two devices requested at one path, the container gets the last one", async () => {
  execFileSync("mknod", [join(directory, "one"), "c", "1", "3"]);
  execFileSync("mknod", [join(directory, "two"), "c", "1", "5"]);
  const asked = ["one", "two"].map((name) => ({
    hostPath: join(directory, name),
    containerPath: "/dev/x",
    permissions: "",
  }));
  const { devices } = await planDevices({ ...config, devices: asked }, false, hostPaths);
  expect(devices.map(({ path, minor }) => [path, minor])).toEqual([["/dev/x", 5]]);
});

test.each([
  [259, 0],
  [4095, 1048575],
  [8, 65536],
  [256, 256],
])("device number %i:%i is the node's", async (major, minor) => {
  const hostPath = join(directory, "node");
  execFileSync("mknod", [hostPath, "b", String(major), String(minor)]);
  const asked = [{ hostPath, containerPath: "/dev/x", permissions: "" }];
  const { devices, rules } = await planDevices({ ...config, devices: asked }, false, hostPaths);
  expect(devices).toMatchObject([{ major, minor }]);
  expect(rules.at(-1)).toMatchObject({ type: "b", major, minor });
});

test("a privileged container gets at most 4096 of the host's devices", async () => {
  await makeNodes("node");
  await mkdir(join(directory, "more"));
  for (let count = 0; count < 4200; count++) await link(join(directory, "node"), join(directory, "more", `${count}`));
  expect(await privileged()).toHaveLength(4096);
});

test("the device cgroup allows nothing but the usual devices, mknod, and the requested access", async () => {
  execFileSync("mknod", [join(directory, "disk"), "b", "240", "17"]);
  const asked = [
    { hostPath: join(directory, "disk"), containerPath: "/dev/mine", permissions: "r" },
    { hostPath: directory, containerPath: "/dev/all", permissions: "" },
  ];
  const { devices, rules } = await planDevices({ ...config, devices: asked }, false, hostPaths);
  expect(devices.map(({ path }) => path)).toEqual(["/dev/mine", "/dev/all/disk"]);
  const shown = rules.map(({ allow, type, major, minor, access }) =>
    [allow ? "allow" : "deny", type ?? "a", major ?? "*", minor ?? "*", access].join(" "),
  );
  expect(shown).toEqual([
    "deny a * * rwm",
    "allow c * * m",
    "allow b * * m",
    ...["1 3", "1 5", "1 7", "1 8", "1 9", "5 0", "5 1", "5 2", "10 200", "136 *"].map(
      (numbers) => `allow c ${numbers} rwm`,
    ),
    "allow b 240 17 r",
    "allow b 240 17 rwm",
  ]);
});
