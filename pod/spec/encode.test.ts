import { execFileSync } from "node:child_process";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Image } from "../../image/types.ts";
import { loadHost } from "../../native/index.ts";
import { newContainerId, newSandboxId } from "../ids.ts";
import {
  containerConfig,
  mountOf,
  noResources,
  plainSecurity,
  podNamespaces,
  sandboxConfig,
} from "../testing/configs.ts";
import type { ContainerConfig, Propagation } from "../types.ts";
import { buildSpec, type ContainerSetup, type NodeSetup, type SandboxSetup } from "./build.ts";
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

interface Surroundings {
  readonly node?: Partial<NodeSetup>;
  readonly sandbox?: Partial<SandboxSetup>;
  readonly container?: Partial<ContainerSetup>;
}

async function specOf(
  change: Partial<ContainerConfig>,
  ofImage: Partial<Image["config"]> = {},
  around: Surroundings = {},
) {
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
      ...around.node,
    },
    {
      id: sandbox,
      config: sandboxConfig("p"),
      files: { resolvConf: "/r", hostname: "/h", shm: "/s" },
      pinned: { network: "/ns/net", ipc: "/ns/ipc", uts: "/ns/uts" },
      cgroup: `/keelson/${sandbox}`,
      hostname: "p",
      ...around.sandbox,
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
      ...around.container,
    },
  );
}

async function specWith(security: Partial<ContainerConfig["security"]>, around: Surroundings = {}) {
  return await specOf({ security: { ...plainSecurity, ...security } }, {}, around);
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

test("no_new_privs is set for a privileged container too: CRI does not list it among what privileged overrides", async () => {
  const security = { ...plainSecurity, privileged: true, noNewPrivs: true };
  expect((await specOf({ security })).process.noNewPrivileges).toBe(true);
});

test("mounts: the request's override ours, deeper ones come later", async () => {
  const mount = (containerPath: string) => ({ ...mountOf(directory), containerPath, readonly: true });
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
  const spec = await specOf({ mounts: [mountOf(hostPath)] });
  expect(spec.mounts.find(({ destination }) => destination === "/volume")?.source).toBe(hostPath);
  await expect(specOf({ mounts: [mountOf("/etc/passwd/below")] })).rejects.toThrow("/etc/passwd/below at /volume");
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

describe("security settings", () => {
  const account = { uid: 1000n, gid: 1001n, supplementalGroups: [1001n, 2000n], home: Buffer.from("/") };
  const around: Surroundings = {
    node: {
      defaultProfile: { kind: "loaded" },
      openFiles: { soft: 1024, hard: 4096 },
      throttlePaths: ["/sys/devices/system/cpu/cpu0/thermal_throttle"],
    },
    container: { account, labels: { process: "u:r:t:s0", mount: "u:o:f:s0" } },
  };
  const asked = { noNewPrivs: true, readonlyRootfs: true, seccomp: { type: "runtime-default", path: "" } } as const;

  test("reach the spec", async () => {
    const { process, root, linux, mounts } = await specWith(asked, around);
    expect(process).toMatchObject({
      user: { uid: 1000, gid: 1001, additionalGids: [1001, 2000] },
      noNewPrivileges: true,
      apparmorProfile: "keelson-default",
      selinuxLabel: "u:r:t:s0",
      rlimits: [{ type: "RLIMIT_NOFILE", soft: 1024, hard: 4096 }],
    });
    expect(root).toEqual({ path: "rootfs", readonly: true });
    expect(linux.mountLabel).toBe("u:o:f:s0");
    expect(linux.seccomp).toMatchObject({ defaultAction: "SCMP_ACT_ERRNO" });
    expect(linux.maskedPaths).toEqual(
      expect.arrayContaining(["/proc/kcore", "/sys/devices/system/cpu/cpu0/thermal_throttle"]),
    );
    expect(linux.readonlyPaths).toContain("/proc/sys");
    expect(mounts.find(({ destination }) => destination === "/etc/resolv.conf")?.options).toContain("ro");
  });

  test("do not confine a privileged container, whatever else it requests", async () => {
    const { process, linux } = await specWith({ ...asked, privileged: true }, around);
    expect(process).not.toHaveProperty("apparmorProfile");
    expect(linux).not.toHaveProperty("seccomp");
    expect(linux).toMatchObject({ maskedPaths: [], readonlyPaths: [] });
  });

  test("the default seccomp profile follows from the container's capabilities", async () => {
    const allowed = async (addCapabilities: readonly string[]) => {
      const { seccomp } = (await specWith({ ...asked, addCapabilities })).linux;
      return JSON.stringify(seccomp);
    };
    expect(await allowed(["SYS_ADMIN"])).not.toBe(await allowed([]));
  });
});

describe("the pod's namespaces", () => {
  test("of a pod with host namespaces: nothing is joined, the host's name and shared memory are used", async () => {
    const spec = await specOf({}, {}, { sandbox: { pinned: {} } });
    expect(spec.linux.namespaces.map(({ type }) => type)).toEqual(["mount", "pid", "cgroup"]);
    expect(spec.hostname).toBe("");
    expect(spec.mounts.find(({ destination }) => destination === "/dev/shm")?.source).toBe(await realpath("/dev/shm"));
  });

  test.each([
    ["pod", { type: "pid", path: "/ns/pid" }],
    ["target", { type: "pid", path: "/bundle/pid-namespace" }],
  ] as const)("pid mode %s joins that namespace", async (pid, namespace) => {
    const spec = await specWith(
      { namespaces: { ...podNamespaces, pid } },
      { sandbox: { pinned: { network: "/ns/net", pid: "/ns/pid" } } },
    );
    expect(spec.linux.namespaces).toContainEqual(namespace);
  });

  test("a user namespace is joined, mapped, and left no device that only root may use", async () => {
    const ids = [{ containerId: 0, hostId: 100_000, length: 65_536 }];
    const spec = await specWith(
      { privileged: true },
      { sandbox: { pinned: { user: "/ns/user" }, user: { uids: ids, gids: ids } } },
    );
    expect(spec.linux.namespaces).toContainEqual({ type: "user", path: "/ns/user" });
    const mapping = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
    expect(spec.linux).toMatchObject({ uidMappings: mapping, gidMappings: mapping });
    expect(spec.linux.devices.filter(({ fileMode }) => (fileMode & 0o006) !== 0o006)).toEqual([]);
  });
});

describe("file systems of the kernel and the pod", () => {
  const shown = ({ mounts }: Awaited<ReturnType<typeof specOf>>) =>
    mounts.map(({ destination, source, options }) => `${destination} ${source} ${options.join(",")}`);

  test("are mounted with as little as they need", async () => {
    expect(shown(await specOf({}))).toEqual([
      "/proc proc nosuid,noexec,nodev",
      "/dev tmpfs nosuid,strictatime,mode=755,size=65536k",
      "/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
      "/dev/mqueue mqueue nosuid,noexec,nodev",
      "/sys sysfs nosuid,noexec,nodev,ro",
      "/sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,ro",
      "/dev/shm /s rbind,rprivate,rw,nosuid,nodev,noexec",
      "/etc/resolv.conf /r rbind,rprivate,rw,nosuid,nodev,noexec",
      "/etc/hostname /h rbind,rprivate,rw,nosuid,nodev,noexec",
    ]);
  });

  test("are writable for a privileged container", async () => {
    const mounts = shown(await specWith({ privileged: true }));
    expect(mounts).toContain("/sys sysfs nosuid,noexec,nodev,rw");
    expect(mounts).toContainEqual(expect.stringMatching(/^\/sys\/fs\/cgroup cgroup nosuid,noexec,nodev,relatime,rw/));
  });

  test("with a user namespace on the host's network, /sys is a bind mount that is read-only down to its last mount", async () => {
    const sandbox = { pinned: { user: "/ns/user" }, user: { uids: [], gids: [] } };
    expect(shown(await specOf({}, {}, { sandbox }))).toContain("/sys /sys rbind,rprivate,nosuid,noexec,nodev,rro");
    const hostUsers = await specOf({}, {}, { sandbox: { pinned: {} } });
    expect(shown(hostUsers)).toContain("/sys sysfs nosuid,noexec,nodev,ro");
  });
});

describe("a mount", () => {
  test.each([
    ["over the root", { containerPath: "/a/.." }],
    ["at a relative path", { containerPath: "data" }],
    ["of something else than a procfs at /proc", { containerPath: "/proc/" }],
    ["of an image at /proc", { containerPath: "/proc/", hostPath: "", image: containerConfig("", "img", []).image }],
  ])("%s is refused", async (_, change) => {
    await expect(specOf({ mounts: [{ ...mountOf(directory), ...change }] })).rejects.toMatchObject({
      name: "mountTarget",
    });
  });

  test("has the access, options and mappings of the request", async () => {
    const ids = [{ containerId: 0, hostId: 100_000, length: 1 }];
    const change = { mountOptions: ["noexec"], uidMappings: ids, gidMappings: ids };
    const volume = async (more: object) => {
      const { mounts } = await specOf({ mounts: [{ ...mountOf(directory), ...more }] });
      return mounts.find(({ destination }) => destination === "/volume");
    };
    expect(await volume({ ...change, readonly: true, recursiveReadOnly: true })).toMatchObject({
      options: ["rbind", "rprivate", "rro", "noexec"],
      uidMappings: [{ containerID: 0, hostID: 100_000, size: 1 }],
    });
    expect((await volume({}))?.options).toEqual(["rbind", "rprivate", "rw"]);
  });

  test("that propagates makes the container's root slave or shared, or nothing would reach it", async () => {
    execFileSync("mount", ["-t", "tmpfs", "none", directory]);
    try {
      execFileSync("mount", ["--make-shared", directory]);
      const rootWith = async (propagation: Propagation) =>
        (await specOf({ mounts: [{ ...mountOf(directory), propagation }] })).linux.rootfsPropagation;
      expect(await rootWith("private")).toBe("rprivate");
      expect(await rootWith("host-to-container")).toBe("rslave");
      expect(await rootWith("bidirectional")).toBe("rshared");
    } finally {
      execFileSync("umount", [directory]);
    }
  });

  test("is relabelled before it is used", async () => {
    const relabelled: string[] = [];
    const relabel: ContainerSetup["relabel"] = async (_, source) => void relabelled.push(source);
    await specOf({ mounts: [mountOf(directory)] }, {}, { container: { relabel } });
    expect(relabelled).toEqual([directory]);
  });
});

test("a CDI device is refused, whether requested by name or by annotation", async () => {
  const annotations = new Map([["cdi.k8s.io/plugin", "vendor.com/gpu=0"]]);
  await expect(specOf({ annotations })).rejects.toMatchObject({ name: "cdiUnsupported" });
  await expect(specOf({ cdiDevices: ["vendor.com/gpu=0"] })).rejects.toMatchObject({ name: "cdiUnsupported" });
});

test("the request's working directory wins over the image's", async () => {
  expect((await specOf({ workingDir: "/mine" })).process.cwd).toBe("/mine");
  expect((await specOf({})).process.cwd).toBe("/work");
  expect((await specOf({}, { workingDir: "" })).process.cwd).toBe("/");
});

test("a terminal has TERM; with a passwd file of the pod's, HOME is left to a monitor that finds it", async () => {
  const names = async (change: Partial<ContainerConfig>, finds: boolean) => {
    const spec = await specOf(change, {}, { container: { monitorFindsHome: () => finds } });
    return spec.process.env.map((entry) => entry.toString());
  };
  const mounts = [{ ...mountOf(directory), containerPath: "/etc" }];
  expect(await names({ tty: true }, true)).toEqual(expect.arrayContaining(["TERM=xterm", "HOME=/root"]));
  expect(await names({ mounts }, false)).toContain("HOME=/root");
  expect(await names({ mounts }, true)).not.toContain("HOME=/root");
});

test("limits are in the spec, in the container's own cgroup; unset ones and those beyond 2^63 are no limit", async () => {
  const resources = {
    ...noResources,
    memoryLimit: 1n << 20n,
    memorySwapLimit: 2n ** 63n - 1n,
    hugepageLimits: [{ pageSize: "2MB", limit: 4n << 20n }],
    unified: new Map([["memory.high", "9000"]]),
  };
  const { cgroupsPath, resources: given } = (await specOf({ resources })).linux;
  expect(cgroupsPath).toMatch(/^\/keelson\/[0-9a-f]{64}\/[0-9a-f]{64}$/);
  const { devices, ...limits } = given;
  expect(devices?.[0]).toEqual({ allow: false, access: "rwm" });
  expect(limits).toEqual({
    memory: { limit: 1_048_576, swap: Number(2n ** 63n - 4096n) },
    hugepageLimits: [{ pageSize: "2MB", limit: 4_194_304 }],
    unified: { "memory.high": "9000" },
  });
});
