// Invalid input over the real socket: a clear error with the right code, and nothing created or lost.
// See also, for wrong digests, truncated layers and hostile archives, image/*.test.ts and native/unpack/*.test.ts; for
// configuration files, cri/cli/config.test.ts.

import { execFileSync } from "node:child_process";
import { cp, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";

let node: TestNode;
let podSandboxId: string;
let containerId: string;
beforeAll(async () => {
  node = await startNode();
  const pod = node.podConfig("steady");
  podSandboxId = (await node.client.runPodSandbox({ config: pod })).podSandboxId;
  containerId = await node.runContainer(pod, podSandboxId, "c", "trap 'exit 0' TERM; sleep 600 & wait");
});
afterAll(() => node.close());

const unknown = "f".repeat(64);

function create(change: object) {
  const config = {
    metadata: { name: "new", attempt: 0 },
    image: { image: node.image },
    command: ["true"],
    linux: {},
    ...change,
  };
  return node.client.createContainer({ podSandboxId, sandboxConfig: node.podConfig("steady"), config });
}

const cases: readonly [string, () => Promise<unknown>, status, string][] = [
  [
    "status of an unknown pod",
    () => node.client.podSandboxStatus({ podSandboxId: unknown }),
    status.NOT_FOUND,
    unknown,
  ],
  [
    "status of an unknown container",
    () => node.client.containerStatus({ containerId: unknown }),
    status.NOT_FOUND,
    unknown,
  ],
  [
    "start of an unknown container",
    () => node.client.startContainer({ containerId: unknown }),
    status.NOT_FOUND,
    unknown,
  ],
  [
    "start of a running container",
    () => node.client.startContainer({ containerId }),
    status.FAILED_PRECONDITION,
    "running",
  ],
  [
    "exec in an unknown container",
    () => node.client.execSync({ containerId: unknown, cmd: ["true"] }),
    status.NOT_FOUND,
    unknown,
  ],
  [
    "exec of a missing program",
    () => node.client.execSync({ containerId, cmd: ["/no/such"] }),
    status.INVALID_ARGUMENT,
    "/no/such",
  ],
  [
    "a container in an unknown pod",
    () =>
      node.client.createContainer({
        podSandboxId: unknown,
        config: { metadata: { name: "x" }, image: { image: node.image } },
        sandboxConfig: node.podConfig("x"),
      }),
    status.NOT_FOUND,
    unknown,
  ],
  [
    "a container of a missing image",
    () => create({ image: { image: "localhost/none:1" } }),
    status.NOT_FOUND,
    "localhost/none:1",
  ],
  [
    "a container of a bad reference",
    () => create({ image: { image: "UPPER/case:!" } }),
    status.NOT_FOUND,
    "UPPER/case:!",
  ],
  [
    "a CDI device",
    () => create({ CDIDevices: [{ name: "vendor.example/gpu=0" }] }),
    status.UNIMPLEMENTED,
    "vendor.example/gpu=0",
  ],
  [
    "a CDI device in an annotation, as device plugins request it",
    () => create({ annotations: { "cdi.k8s.io/plugin_1": "vendor.example/gpu=0,vendor.example/gpu=1" } }),
    status.UNIMPLEMENTED,
    "vendor.example/gpu=0",
  ],
  [
    "a pull of a bad reference",
    () => node.client.pullImage({ image: { image: "UPPER/case:!" } }),
    status.INVALID_ARGUMENT,
    "UPPER/case:!",
  ],
  [
    "a pull from an address without a listener",
    () => node.client.pullImage({ image: { image: "127.0.0.1:1/none:1" } }),
    status.UNKNOWN,
    "RegistryUnavailable",
  ],
  ["a pod without metadata", () => node.client.runPodSandbox({ config: {} }), status.INVALID_ARGUMENT, "metadata"],
  [
    "a pod with an unknown handler",
    () => node.client.runPodSandbox({ config: node.podConfig("h"), runtimeHandler: "none" }),
    status.INVALID_ARGUMENT,
    "none",
  ],
  [
    "an unknown capability",
    () => create({ linux: { securityContext: { capabilities: { addCapabilities: ["FLY"] } } } }),
    status.INVALID_ARGUMENT,
    "FLY",
  ],
  [
    "a privileged container in an unprivileged pod",
    () => create({ linux: { securityContext: { privileged: true } } }),
    status.INVALID_ARGUMENT,
    "requests privileged mode, but its pod sandbox",
  ],
  [
    "a pod with a sysctl value that the kernel rejects",
    () =>
      node.client.runPodSandbox({
        config: { ...node.podConfig("s"), linux: { sysctls: { "kernel.msgmax": "many" } } },
      }),
    status.INVALID_ARGUMENT,
    "kernel/msgmax: Invalid argument",
  ],
  [
    "a pod with a sysctl that the kernel does not have",
    () =>
      node.client.runPodSandbox({ config: { ...node.podConfig("s"), linux: { sysctls: { "net.ipv4.none": "1" } } } }),
    status.INVALID_ARGUMENT,
    "net/ipv4/none: No such file",
  ],
  [
    "an update to a NUMA node that the host does not have",
    () => node.client.updateContainerResources({ containerId, linux: { cpusetMems: "63" } }),
    status.INVALID_ARGUMENT,
    "cpuset.mems: ",
  ],
  [
    "a mount whose source is below a file",
    () => create({ mounts: [{ hostPath: "/etc/passwd/below", containerPath: "/x" }] }),
    status.INVALID_ARGUMENT,
    "cannot be set up: not a directory. Check that the host path exists",
  ],
  [
    "a device that the host does not have",
    () => create({ devices: [{ hostPath: "/dev/none", containerPath: "/dev/x", permissions: "rw" }] }),
    status.INVALID_ARGUMENT,
    "cannot be added to the container: no such file or directory. Use a device node",
  ],
  [
    "a log path outside its directory",
    () => create({ logPath: "../../etc/passwd" }),
    status.INVALID_ARGUMENT,
    "../../etc/passwd",
  ],
];

test.each(cases)("%s", async (_, call, code, words) => {
  const error: unknown = await call().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code });
  expect(String(error)).toContain(words);
  expect(String(error)).not.toMatch(/\.ts:\d+/);
});

test.each([
  [
    "an environment that is too large for a program",
    { envs: [{ key: "LARGE", value: "x".repeat(200_000) }] },
    "execute true: Argument list too long",
  ],
  [
    "a working directory that is a file",
    { workingDir: "/bin/busybox" },
    "working directory /bin/busybox: Not a directory",
  ],
  [
    "a mount below a file",
    { mounts: [{ containerPath: "/bin/busybox/below", hostPath: "/etc" }] },
    "mount target /bin/busybox/below: Not a directory",
  ],
  [
    "a mount where a read-only volume has no directory",
    {
      mounts: [
        { containerPath: "/volume", hostPath: "/etc", readonly: true },
        { containerPath: "/volume/none-of-that-name", hostPath: "/etc" },
      ],
    },
    "mount target /volume/none-of-that-name: Read-only file system",
  ],
  [
    "a device where the image has a file",
    { devices: [{ containerPath: "/bin/busybox", hostPath: "/dev/null", permissions: "rw" }] },
    "device /bin/busybox: File exists",
  ],
])("%s is an invalid request, not a host error", async (name, change, words) => {
  const { containerId: failing } = await create({ metadata: { name, attempt: 0 }, ...change });
  await expect(node.client.startContainer({ containerId: failing })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining(words),
  });
  await node.client.removeContainer({ containerId: failing });
});

test("a program with file capabilities that its container lacks is an invalid request, not a host error", async () => {
  const hostPath = join(node.directory, "capable");
  await mkdir(hostPath);
  await cp("/bin/busybox", join(hostPath, "busybox"));
  // As set by setcap cap_net_bind_service=+ep: vfs_cap_data of linux/capability.h.
  const data = "struct.pack('<5I', 0x02000001, 1 << 10, 0, 0, 0)";
  const set = `import os, struct, sys; os.setxattr(sys.argv[1], 'security.capability', ${data})`;
  execFileSync("python3", ["-c", set, join(hostPath, "busybox")]);
  const { containerId: incapable } = await create({
    metadata: { name: "incapable", attempt: 0 },
    command: ["/capable/busybox", "true"],
    mounts: [{ hostPath, containerPath: "/capable" }],
    linux: { securityContext: { capabilities: { dropCapabilities: ["ALL"] } } },
  });
  await expect(node.client.startContainer({ containerId: incapable })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("execute /capable/busybox: Operation not permitted (the file has capabilities"),
  });
  await node.client.removeContainer({ containerId: incapable });
});

test("an exec whose working directory was removed fails with the reason", async () => {
  const { containerId: homeless } = await create({
    metadata: { name: "homeless", attempt: 0 },
    command: ["sleep", "600"],
    workingDir: "/here",
  });
  await node.client.startContainer({ containerId: homeless });
  await node.client.execSync({ containerId: homeless, cmd: ["sh", "-c", "rmdir /here"] });
  await expect(node.client.execSync({ containerId: homeless, cmd: ["true"] })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("working directory /here: No such file or directory"),
  });
  await node.client.removeContainer({ containerId: homeless });
});

test.each([
  ["was created as privileged", true, undefined],
  ["is marked privileged only in the container's request, as for kubectl debug", false, true],
])("a privileged container runs in a pod that %s", async (_, made, now) => {
  const pod = (privileged: boolean) => ({
    ...node.podConfig("privileged"),
    linux: { securityContext: { privileged } },
  });
  const { podSandboxId: id } = await node.client.runPodSandbox({ config: pod(made) });
  const config = {
    metadata: { name: "p", attempt: 0 },
    image: { image: node.image },
    command: ["sleep", "600"],
    linux: { securityContext: { privileged: true } },
  };
  const { containerId: inside } = await node.client.createContainer({
    podSandboxId: id,
    config,
    ...(now === undefined ? {} : { sandboxConfig: pod(now) }),
  });
  await node.client.startContainer({ containerId: inside });
  const { exitCode } = await node.client.execSync({
    containerId: inside,
    cmd: ["mount", "-t", "tmpfs", "none", "/tmp"],
  });
  expect(exitCode).toBe(0);
  await node.client.removePodSandbox({ podSandboxId: id });
});

test.each(["/bin/busybox", "/bin/busybox/below"])(
  "a start with the working directory %s, which is not a directory, fails",
  async (workingDir) => {
    const { containerId: failing } = await create({ metadata: { name: "elsewhere", attempt: 0 }, workingDir });
    await expect(node.client.startContainer({ containerId: failing })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining(`working directory ${workingDir}: Not a directory`),
    });
    await node.client.removeContainer({ containerId: failing });
  },
);

test.each(["4000", "99999999999"])("a start on CPU %s, which the host lacks, fails", async (cpusetCpus) => {
  const linux = { resources: { cpusetCpus } };
  const { containerId: failing } = await create({ metadata: { name: "nowhere", attempt: 0 }, linux });
  await expect(node.client.startContainer({ containerId: failing })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("cpuset.cpus: "),
  });
  await node.client.removeContainer({ containerId: failing });
});

test.each([
  ["that is a directory", "logs/"],
  ["that is too long for a file name", "x".repeat(300)],
])("a start with a log path %s fails", async (_, logPath) => {
  const { containerId: failing } = await create({ metadata: { name: "unlogged", attempt: 0 }, logPath });
  await expect(node.client.startContainer({ containerId: failing })).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("open the log "),
  });
  await node.client.removeContainer({ containerId: failing });
});

test("a failed start names the command, and leaves the container exited with code 128 and an empty log", async () => {
  const { containerId: failing } = await create({
    metadata: { name: "missing-command", attempt: 0 },
    logPath: "missing-command.log",
    command: ["/no/such/command"],
  });
  await expect(node.client.startContainer({ containerId: failing })).rejects.toThrow("/no/such/command");
  const { status: after } = await node.client.containerStatus({ containerId: failing });
  expect(after).toMatchObject({ state: 2, exitCode: 128, reason: "StartError" });
  expect(await readFile(after?.logPath ?? "", "utf8")).toBe("");
  await node.client.removeContainer({ containerId: failing });
});

test("after all of them, the pod and its container are unchanged, and nothing else exists", async () => {
  expect((await node.client.listPodSandbox({})).items.map(({ id }) => id)).toEqual([podSandboxId]);
  expect((await node.client.listContainers({})).containers.map(({ id, state }) => [id, state])).toEqual([
    [containerId, 1],
  ]);
  await node.client.removePodSandbox({ podSandboxId });
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});
