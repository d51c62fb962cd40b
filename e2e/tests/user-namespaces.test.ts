// Pods with user namespaces: root inside is an unprivileged user outside, and containers still work.

import { chown, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { type PodConfig, startNode, type TestNode } from "../fixtures/node.ts";

const { POD, NODE, CONTAINER, TARGET } = runtime.v1.NamespaceMode;
const hostBase = 200_000;
const mapping = [{ containerId: 0, hostId: hostBase, length: 65_536 }];
const mapped = { mode: POD, uids: mapping, gids: mapping };

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.close());

function podWith(name: string, namespaceOptions: object): PodConfig {
  return { ...node.podConfig(name), linux: { securityContext: { namespaceOptions } } };
}

interface Running {
  readonly podSandboxId: string;
  readonly containerId: string;
  /** Runs a shell script in the container and returns its output. */
  sh(script: string): Promise<string>;
}

/** A pod with one container that sleeps; `linux` and `more` are merged into the container's config. */
async function run(name: string, namespaceOptions: object, linux: object = {}, more: object = {}): Promise<Running> {
  const { client, image } = node;
  const pod = podWith(name, namespaceOptions);
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const config = {
    metadata: { name, attempt: 0 },
    image: { image },
    command: ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
    logPath: `${name}.log`,
    ...more,
    linux: { ...linux, securityContext: { namespaceOptions, ...securityOf(linux) } },
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  const sh = async (script: string): Promise<string> => {
    const answer = await client.execSync({ containerId, cmd: ["sh", "-c", script] });
    return Buffer.concat([answer.stdout, answer.stderr]).toString();
  };
  return { podSandboxId, containerId, sh };
}

function securityOf(linux: object): object {
  return "securityContext" in linux && typeof linux.securityContext === "object" ? (linux.securityContext ?? {}) : {};
}

async function pidOf(containerId: string): Promise<number> {
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return JSON.parse(info?.info ?? "{}").pid;
}

async function bundleFile(containerId: string, file: string): Promise<{ upper: string }> {
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return JSON.parse(await readFile(join(JSON.parse(info?.info ?? "{}").bundle, file), "utf8"));
}

describe("a pod with a user namespace", () => {
  let pod: Running;
  beforeAll(async () => {
    pod = await run("mapped", { usernsOptions: mapped, pid: CONTAINER });
  });
  afterAll(() => node.client.removePodSandbox({ podSandboxId: pod.podSandboxId }));

  test("runs as root inside, at the start and in an exec, and as an ordinary user on the host", async () => {
    expect((await pod.sh("cat /proc/1/uid_map /proc/self/gid_map")).split(/\s+/).filter(Boolean)).toEqual(
      ["0", String(hostBase), "65536"].concat(["0", String(hostBase), "65536"]),
    );
    expect(await pod.sh("id -u; id -g; stat -c %u /proc/1")).toBe("0\n0\n0\n");
    const text = await readFile(`/proc/${await pidOf(pod.containerId)}/status`, "utf8");
    expect(text).toMatch(new RegExp(`^Uid:\\t${hostBase}\\t${hostBase}\\t${hostBase}\\t${hostBase}$`, "m"));
  });

  test("has its containers in its own cgroup, whose limits apply to them (CVE-2025-47291)", async () => {
    const table = await readFile(`/proc/${await pidOf(pod.containerId)}/cgroup`, "utf8");
    const cgroups = table.split("\n").filter((line) => /^\d+:(memory|pids|):/.test(line));
    expect(cgroups.length).toBeGreaterThan(0);
    for (const line of cgroups) expect(line).toContain(`/${pod.podSandboxId}/${pod.containerId}`);
  });

  test("owns its files: the image's, its own, and those of the pod", async () => {
    const owners = "stat -c '%u:%g %n' / /bin/sh /etc/passwd /etc/resolv.conf /etc/hostname /dev/shm /dev/null /proc/1";
    const lines = (await pod.sh(owners)).trim().split("\n");
    expect(lines).toHaveLength(8);
    for (const line of lines) expect(line).toMatch(/^0:0 /);
    await pod.sh("touch /made && chown 7:8 /made && chmod 4755 /bin/busybox && echo x > /dev/shm/x");
    const { upper } = await bundleFile(pod.containerId, "rootfs.json");
    expect(await stat(join(upper, "made"))).toMatchObject({ uid: hostBase + 7, gid: hostBase + 8 });
    expect(await stat(join(upper, "bin/busybox"))).toMatchObject({ uid: hostBase, gid: hostBase, mode: 0o104755 });
    expect(await pod.sh("stat -c %u:%g /made")).toBe("7:8\n");
  });

  test("has the usual devices and file systems", async () => {
    const script =
      "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; ls -l /dev/fd/0 >/dev/null && echo fd";
    expect(await pod.sh(script)).toBe("3\n2\nfd\n");
    const mounts = await pod.sh("cat /proc/self/mountinfo");
    for (const point of ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/dev/shm"])
      expect(mounts).toContain(` ${point} `);
    expect(mounts).not.toContain("keelson/pods");
  });

  test("has root's privileges in its own namespaces, and none on the host", async () => {
    expect(await pod.sh("hostname other 2>&1; mount -t tmpfs none /tmp 2>&1; true")).toMatch(
      /not permitted[\s\S]*(denied|not permitted)/,
    );
    expect(await pod.sh("mknod /tmp/disk b 8 0 2>&1; true")).toMatch(/not permitted/);
    expect(await pod.sh("echo 1 > /proc/sys/kernel/panic; true")).toMatch(/Read-only|denied/);
    expect(await pod.sh("kill -0 1 && echo own")).toBe("own\n");
  });
});

test("with CAP_SYS_ADMIN it can mount in its own mount namespace", async () => {
  const linux = { securityContext: { capabilities: { addCapabilities: ["SYS_ADMIN"] } } };
  const { podSandboxId, sh } = await run("admin", { usernsOptions: mapped, pid: CONTAINER }, linux);
  const script = "mount -t tmpfs none /mnt && touch /mnt/x && umount /mnt && hostname inside && hostname";
  expect(await sh(`mkdir /mnt; ${script}`)).toBe("inside\n");
  // Its locked mounts cannot be unmounted to uncover what they hide.
  expect(await sh("umount /proc/kcore 2>&1; umount /sys 2>&1; true")).toMatch(/umount/);
  await node.client.removePodSandbox({ podSandboxId });
});

test("sysctls of each namespace are set in the pod's namespace, whichever user the kernel allows to write them", async () => {
  const { client, image } = node;
  const sysctls = {
    "kernel.shmmni": "1234",
    "kernel.msgmax": "8193",
    "fs.mqueue.msg_max": "11",
    "net.ipv4.ip_unprivileged_port_start": "0",
  };
  const namespaceOptions = { usernsOptions: mapped, pid: CONTAINER };
  const config = { ...node.podConfig("sysctls"), linux: { securityContext: { namespaceOptions }, sysctls } };
  const { podSandboxId } = await client.runPodSandbox({ config });
  const { containerId } = await client.createContainer({
    podSandboxId,
    sandboxConfig: config,
    config: {
      metadata: { name: "c", attempt: 0 },
      image: { image },
      command: ["sleep", "1000"],
      linux: { securityContext: { namespaceOptions } },
    },
  });
  await client.startContainer({ containerId });
  for (const [name, value] of Object.entries(sysctls)) {
    const cmd = ["cat", `/proc/sys/${name.replaceAll(".", "/")}`];
    expect(Buffer.from((await client.execSync({ containerId, cmd })).stdout).toString()).toBe(`${value}\n`);
  }
  await client.removePodSandbox({ podSandboxId });
});

test("a privileged container gets the host's world-accessible devices, and those that it requests", async () => {
  const { client, image } = node;
  const securityContext = { namespaceOptions: { usernsOptions: mapped, pid: CONTAINER }, privileged: true };
  const sandboxConfig = { ...node.podConfig("privileged"), linux: { securityContext } };
  const { podSandboxId } = await client.runPodSandbox({ config: sandboxConfig });
  const config = {
    metadata: { name: "c", attempt: 0 },
    image: { image },
    command: ["sleep", "1000"],
    devices: [{ hostPath: "/dev/kmsg", containerPath: "/dev/asked" }],
    linux: { securityContext },
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig, config });
  await client.startContainer({ containerId });
  const cmd = ["sh", "-c", "stat -c '%a %n' $(find /dev -type c -o -type b)"];
  const { stdout } = await client.execSync({ containerId, cmd });
  const modes = Buffer.from(stdout).toString().trim().split("\n");
  expect(modes).toContain("666 /dev/null");
  expect(modes.filter((line) => !/^\d?\d\d[67] /.test(line))).toEqual([expect.stringMatching(/ \/dev\/asked$/)]);
  await client.removePodSandbox({ podSandboxId });
});

test("a device that is mounted at the path of another one replaces it", async () => {
  const mounts = [{ hostPath: "/dev/urandom", containerPath: "/dev/random" }];
  const { podSandboxId, sh } = await run("urandom", { usernsOptions: mapped, pid: CONTAINER }, {}, { mounts });
  expect(await sh("stat -c %t:%T /dev/random")).toBe("1:9\n");
  await node.client.removePodSandbox({ podSandboxId });
});

test("overlapping mappings of a volume are refused", async () => {
  const overlaps = [
    { containerId: 0, hostId: 1000, length: 10 },
    { containerId: 10, hostId: 1009, length: 10 },
  ];
  const apart = [
    { containerId: 0, hostId: 1000, length: 10 },
    { containerId: 10, hostId: 1010, length: 10 },
  ];
  for (const [uidMappings, gidMappings] of [
    [overlaps, apart],
    [apart, overlaps],
    [apart, overlaps.map(({ containerId, hostId, length }) => ({ containerId: hostId, hostId: containerId, length }))],
  ]) {
    const mounts = [{ hostPath: node.directory, containerPath: "/x", uidMappings, gidMappings }];
    await expect(run("overlap", { usernsOptions: mapped, pid: CONTAINER }, {}, { mounts })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining("do not overlap"),
    });
    await node.removePods();
  }
});

test("a non-root user, with groups and a terminal", async () => {
  const user = { runAsUser: { value: 1000 }, runAsGroup: { value: 1001 }, supplementalGroups: [2000] };
  const tty = { tty: true, stdin: true };
  const { podSandboxId, containerId, sh } = await run(
    "user",
    { usernsOptions: mapped, pid: POD },
    { securityContext: user },
    tty,
  );
  expect(await sh("id -u; id -g; id -G")).toBe("1000\n1001\n1001 2000\n");
  // The pod's shared PID namespace has our init as PID 1, in the same user namespace.
  const init = await sh("cat /proc/1/comm /proc/1/uid_map");
  expect(init).toMatch(new RegExp(`keelson-init\\s+0\\s+${hostBase}\\s+65536`));
  expect(await sh("stat -c %u:%g /dev/console")).toBe("1000:5\n");
  const text = await readFile(`/proc/${await pidOf(containerId)}/status`, "utf8");
  expect(text).toContain(`Uid:\t${hostBase + 1000}\t`);
  await node.client.removePodSandbox({ podSandboxId });
});

test.each([
  ["user id 65536", { runAsUser: { value: 65_536 } }],
  ["group id 70000", { runAsUser: { value: 0 }, runAsGroup: { value: 70_000 } }],
  ["group id 2000000", { supplementalGroups: [5, 2_000_000] }],
])("the %s is refused, because the pod does not map it", async (id, securityContext) => {
  await expect(run("unmapped", { usernsOptions: mapped, pid: CONTAINER }, { securityContext })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringMatching(new RegExp(`^The ${id} .* from 0 to 65535`)),
  });
  const { containers } = await node.client.listContainers({});
  expect(containers.filter(({ metadata }) => metadata?.name === "unmapped")).toEqual([]);
  await node.removePods();
});

test("a volume with the pod's mappings maps file owners between host and container, also for new files", async () => {
  const hostPath = join(node.directory, "volume");
  await mkdir(hostPath);
  await writeFile(join(hostPath, "given"), "given\n");
  await chown(join(hostPath, "given"), 5, 6);
  const plain = { hostPath, containerPath: "/plain" };
  const shown = { hostPath, containerPath: "/shown", uidMappings: mapping, gidMappings: mapping };
  const other = [{ containerId: 0, hostId: hostBase + 100, length: 1000 }];
  const shifted = { hostPath, containerPath: "/shifted", uidMappings: other, gidMappings: other };
  const { podSandboxId, sh } = await run(
    "volumes",
    { usernsOptions: mapped, pid: CONTAINER },
    {},
    { mounts: [plain, shown, shifted] },
  );
  expect(await sh("stat -c %u:%g /plain/given /shown/given /shifted/given")).toBe("65534:65534\n5:6\n105:106\n");
  expect(await sh("echo made > /shown/made && stat -c %u /shown/made")).toBe("0\n");
  expect(await stat(join(hostPath, "made"))).toMatchObject({ uid: 0, gid: 0 });
  expect(await sh("touch /plain/refused 2>&1; true")).toMatch(/denied/);
  await node.client.removePodSandbox({ podSandboxId });
});

for (const [words, pid, other] of [
  ["the pod's", POD, "keelson-init"],
  ["another container's", TARGET, "sh"],
] as const)
  test(`in ${words} PID namespace a container sees other processes, is root in its user namespace and has a complete procfs`, async () => {
    const first = await run(`pids-${other}`, { usernsOptions: mapped, pid: pid === TARGET ? CONTAINER : pid });
    const targetId = pid === TARGET ? first.containerId : "";
    const pod = podWith(`pids-${other}`, { usernsOptions: mapped, pid: pid === TARGET ? CONTAINER : pid });
    const { containerId } = await node.client.createContainer({
      podSandboxId: first.podSandboxId,
      sandboxConfig: pod,
      config: {
        metadata: { name: "second" },
        image: { image: node.image },
        command: ["sleep", "1000"],
        linux: { securityContext: { namespaceOptions: { usernsOptions: mapped, pid, targetId } } },
      },
    });
    await node.client.startContainer({ containerId });
    const script =
      "cat /proc/1/comm; id -u; grep CapEff /proc/self/status; echo x > /proc/sys/kernel/core_pattern; ls -d /proc/[0-9]* | wc -l";
    const { stdout, stderr } = await node.client.execSync({ containerId, cmd: ["sh", "-c", script] });
    const [init, uid, capabilities, processes] = Buffer.from(stdout).toString().trim().split("\n");
    expect([init, uid]).toEqual([other, "0"]);
    expect(capabilities).toContain("a80425fb");
    expect(Number(processes)).toBeGreaterThanOrEqual(4);
    expect(Buffer.from(stderr).toString()).toMatch(/Read-only|denied/);
    expect(Number((await stat(`/proc/${await pidOf(containerId)}`)).uid)).toBe(hostBase);
    await node.client.removePodSandbox({ podSandboxId: first.podSandboxId });
  });

test("on the host's network", async () => {
  const { podSandboxId, sh } = await run("hostnet", { usernsOptions: mapped, network: NODE, pid: CONTAINER });
  const links = await sh("ls /sys/class/net");
  expect(links.trim().split("\n")).toContain("lo");
  expect(await sh("cat /proc/self/uid_map")).toContain(String(hostBase));
  expect(await sh("ip link add dummy9 type dummy 2>&1; true")).toMatch(/not permitted|denied/);
  // The host's /sys with everything below must be read-only: a bpffs mounted by Cilium is writable for any user.
  const points = (await sh("cat /proc/self/mountinfo")).split("\n").map((line) => line.split(" "));
  const ofSys = points.filter(([, , , , target]) => target === "/sys" || target?.startsWith("/sys/"));
  expect(ofSys.length).toBeGreaterThan(1);
  expect(ofSys.filter(([, , , , , options, tag]) => !options?.startsWith("ro,") || tag !== "-")).toEqual([]);
  await node.client.removePodSandbox({ podSandboxId });
});

test("the status reports the mappings, before and after a kill -9, and exec still works", async () => {
  const { client, daemon } = node;
  const { podSandboxId, sh } = await run("killed", { usernsOptions: mapped, pid: CONTAINER });
  const options = async () =>
    (await client.podSandboxStatus({ podSandboxId })).status?.linux?.namespaces?.options?.usernsOptions;
  const before = await options();
  expect(before).toMatchObject(mapped);
  await daemon.kill();
  await daemon.start();
  expect(await options()).toEqual(before);
  expect(await sh("id -u; echo again > /again; stat -c %u /again")).toBe("0\n0\n");
  await client.stopPodSandbox({ podSandboxId });
  await client.removePodSandbox({ podSandboxId });
});

test("the runtime reports support for user namespaces", async () => {
  const { runtimeHandlers, features } = await node.client.status({});
  expect(runtimeHandlers).toMatchObject([
    { name: "", features: { userNamespaces: true } },
    { name: "native", features: { userNamespaces: true } },
  ]);
  expect(features?.userNamespacesHostNetwork).toBe(true);
});

test.each([
  ["mode CONTAINER", { usernsOptions: { mode: CONTAINER } }],
  ["mode TARGET", { usernsOptions: { mode: TARGET } }],
  ["two mappings", { usernsOptions: { mode: POD, uids: [...mapping, ...mapping], gids: mapping } }],
  ["no mapping", { usernsOptions: { mode: POD } }],
  [
    "container id 0 not mapped",
    { usernsOptions: { mode: POD, uids: [{ containerId: 1, hostId: 5, length: 9 }], gids: mapping } },
  ],
  [
    "the host's root mapped into the pod",
    { usernsOptions: { mode: POD, uids: [{ containerId: 0, hostId: 0, length: 65_536 }], gids: mapping } },
  ],
  [
    "the host's root group mapped into the pod",
    { usernsOptions: { mode: POD, uids: mapping, gids: [{ containerId: 0, hostId: 0, length: 1 }] } },
  ],
  ["mappings with mode NODE", { usernsOptions: { mode: NODE, uids: mapping } }],
  ["the node's PID namespace", { usernsOptions: mapped, pid: NODE }],
  ["the node's IPC namespace", { usernsOptions: mapped, ipc: NODE }],
])("refuses %s", async (_, options) => {
  const config = podWith("refused", options);
  await expect(node.client.runPodSandbox({ config })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
});

test("a volume whose file system does not support ID mappings is refused with that reason", async () => {
  const volume = { hostPath: "/proc/sys/kernel", containerPath: "/volume", uidMappings: mapping, gidMappings: mapping };
  await expect(
    run("mapless", { usernsOptions: mapped, pid: CONTAINER }, {}, { mounts: [volume] }),
  ).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("map the owners of /proc/sys/kernel: its file system has no idmapped mounts"),
  });
  await node.removePods();
});

test("nothing is left behind", async () => {
  await node.removePods();
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
  await node.daemon.start();
});
