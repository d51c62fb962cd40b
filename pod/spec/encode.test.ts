import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Image } from "../../image/types.ts";
import { loadHost } from "../../native/index.ts";
import { newContainerId, newSandboxId } from "../ids.ts";
import { containerConfig, noResources, plainSecurity, podNamespaces, sandboxConfig } from "../testing/configs.ts";
import type { ContainerConfig } from "../types.ts";
import { buildSpec } from "./build.ts";
import { encodeSpec } from "./encode.ts";
import { HostPaths } from "./host-paths.ts";
import { SeccompFilters } from "./seccomp.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-spec-"));
});
afterEach(async () => await rm(directory, { recursive: true }));

const imageConfig: Image["config"] = {
  env: ["PATH=/image/bin", "FROM_IMAGE=1"],
  entrypoint: ["/entry"],
  cmd: ["cmd"],
  workingDir: "/work",
  user: "",
  volumes: [],
  stopSignal: "",
  labels: new Map(),
};

async function specOf(change: Partial<ContainerConfig>, ofImage: Partial<Image["config"]> = {}) {
  const sandbox = newSandboxId();
  return await buildSpec(
    {
      hostCapabilities: (1n << 41n) - 1n,
      openFiles: undefined,
      lowestOomScore: -500,
      filters: new SeccompFilters("/nowhere", loadHost()),
      defaultProfile: { kind: "off" },
      hostPaths: new HostPaths(loadHost()),
      throttlePaths: [],
    },
    {
      id: sandbox,
      config: sandboxConfig("p"),
      files: { resolvConf: "/r", hostname: "/h", shm: "/s" },
      pinned: { network: "/ns/net", ipc: "/ns/ipc", uts: "/ns/uts" },
      cgroup: `/keelson/${sandbox}`,
      hostname: "p",
    },
    {
      id: newContainerId(),
      config: { ...containerConfig("c", "test:1", []), ...change },
      image: {
        id: digest("a"),
        tags: [],
        repoDigests: [],
        size: 1n,
        config: { ...imageConfig, ...ofImage },
        pinned: false,
        layers: [],
        chainIds: [],
      },
      account: { uid: 0n, gid: 0n, supplementalGroups: [0n], home: Buffer.from("/root") },
      imageVolumes: [],
      targetPidNamespace: "/bundle/pid-namespace",
      labels: {},
      relabel: async () => undefined,
      monitorFindsHome: () => true,
    },
  );
}

function digest(digit: string): Image["id"] {
  const text = `sha256:${digit.repeat(64)}`;
  if (!isId(text)) throw new TypeError("not an image id");
  return text;
}
function isId(text: string): text is Image["id"] {
  return /^sha256:[0-9a-f]{64}$/.test(text);
}

test.each([
  [[], [], ["/entry", "cmd"]],
  [["/c"], [], ["/c"]],
  [[], ["a"], ["/entry", "a"]],
  [["/c"], ["a"], ["/c", "a"]],
])("command %j and args %j give %j", async (command, args, line) => {
  expect((await specOf({ command, args })).process.args).toEqual(line);
});

test.each([
  [[""], ["cmd"], [], ["cmd"]],
  [[""], ["cmd"], ["a"], ["a"]],
  [["", "/entry"], ["cmd"], [], ["", "/entry", "cmd"]],
])("an image's entrypoint %j with cmd %j, and args %j, give %j", async (entrypoint, cmd, args, line) => {
  expect((await specOf({ command: [], args }, { entrypoint, cmd })).process.args).toEqual(line);
});

test("an entrypoint of one empty string, and nothing else, is no command", async () => {
  await expect(specOf({ command: [], args: [] }, { entrypoint: [""], cmd: [] })).rejects.toMatchObject({
    name: "commandMissing",
  });
});

test("the environment has each name once, the request's value wins, and bytes are unchanged", async () => {
  const raw = Buffer.from([0xff, 0xfe, 0x22, 0x5c, 0x0a, 0x41]);
  const spec = await specOf({
    envs: [
      { name: "RAW", value: raw },
      { name: "FROM_IMAGE", value: Buffer.from("2") },
    ],
  });
  const entries = spec.process.env.map((entry) => entry.toString("latin1"));
  expect(entries).toEqual(expect.arrayContaining(["PATH=/image/bin", "FROM_IMAGE=2", "HOSTNAME=p", "HOME=/root"]));
  expect(entries.filter((entry) => entry.startsWith("FROM_IMAGE="))).toHaveLength(1);

  const file = encodeSpec(spec);
  const escaped = Buffer.concat([
    Buffer.from('"RAW='),
    Buffer.from([0xff, 0xfe]),
    Buffer.from('\\u0022\\u005c\\u000aA"'),
  ]);
  expect(file.includes(escaped)).toBe(true);
  expect(JSON.parse(file.toString("latin1")).process.env).toContain(`RAW=${raw.toString("latin1")}`);
});

test("mounts: the request's override ours, deeper ones come later", async () => {
  const mount = (containerPath: string) => ({
    containerPath,
    hostPath: directory,
    readonly: true,
    selinuxRelabel: false,
    propagation: "private" as const,
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    imageSubPath: "",
    mountOptions: [],
  });
  const spec = await specOf({
    mounts: [mount("/data/deep"), mount("/data"), mount("/etc/hostname")],
  });
  const targets = spec.mounts.map(({ destination }) => destination);
  expect(targets.indexOf("/data")).toBeLessThan(targets.indexOf("/data/deep"));
  expect(spec.mounts.filter(({ destination }) => destination === "/etc/hostname").map(({ source }) => source)).toEqual([
    directory,
  ]);
  expect(spec.mounts.find(({ destination }) => destination === "/data")?.options).toEqual(["rbind", "rprivate", "ro"]);
});

test("a missing host path is created as a directory; one below a file is an error with both paths", async () => {
  const hostPath = join(directory, "made/here");
  const plain = {
    containerPath: "/data",
    readonly: false,
    selinuxRelabel: false,
    propagation: "private",
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    imageSubPath: "",
    mountOptions: [],
  } as const;
  const spec = await specOf({ mounts: [{ ...plain, hostPath }] });
  expect(spec.mounts.find(({ destination }) => destination === "/data")?.source).toBe(hostPath);
  await expect(specOf({ mounts: [{ ...plain, hostPath: "/etc/passwd/below" }] })).rejects.toThrow(
    "/etc/passwd/below at /data",
  );
});

test("namespaces: the pod's are joined by path, pid by mode", async () => {
  const { namespaces } = (await specOf({})).linux;
  expect(namespaces).toEqual([
    { type: "mount" },
    { type: "network", path: "/ns/net" },
    { type: "ipc", path: "/ns/ipc" },
    { type: "uts", path: "/ns/uts" },
    { type: "pid" },
    { type: "cgroup" },
  ]);
  const host = await specOf({ security: { ...plainSecurity, namespaces: { ...podNamespaces, pid: "node" } } });
  expect(host.linux.namespaces.some(({ type }) => type === "pid")).toBe(false);
  const privileged = await specOf({ security: { ...plainSecurity, privileged: true } });
  expect(privileged.linux.namespaces.some(({ type }) => type === "cgroup")).toBe(false);
});

test("a privileged container has the host's devices with their real device numbers", async () => {
  const spec = await specOf({ security: { ...plainSecurity, privileged: true } });
  const zero = spec.linux.devices.find(({ path }) => path === "/dev/zero");
  expect(zero).toMatchObject({ type: "c", major: 1, minor: 5 });
  expect(spec.linux.resources.devices).toEqual([{ allow: true, access: "rwm" }]);
});

test("a path that is not a device is an error that names it", async () => {
  const device = { containerPath: "/dev/x", hostPath: "/etc/passwd", permissions: "rw" };
  await expect(specOf({ devices: [device] })).rejects.toThrow("/etc/passwd");
});

test.each([
  [-997n, -500],
  [2n, 2],
])("an OOM score of %i becomes %i if this process may not go below -500", async (asked, score) => {
  const resources = { ...noResources, oomScoreAdj: asked };
  expect((await specOf({ resources })).process.oomScoreAdj).toBe(score);
});
