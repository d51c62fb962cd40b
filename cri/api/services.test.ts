// Requests and responses through the real services on a real socket: what is refused, and what is returned unchanged.

import { status } from "@grpc/grpc-js";
import Long from "long";
import { describe, expect, test } from "vitest";
import type { SandboxResources } from "../../pod/types.ts";
import { runtime } from "./generated/messages.js";
import { failure } from "./testing/client.ts";
import { serveEdge } from "./testing/edge.ts";
import { memoryPods } from "./testing/memory-pods.ts";
import { containerConfig, sandboxConfig } from "./testing/requests.ts";

const linux = (securityContext: object) => ({ linux: { securityContext } });
const userns = (usernsOptions: object) => linux({ namespaceOptions: { usernsOptions } });
const one = { hostId: 100_000, containerId: 0, length: 65_536 };

describe("RunPodSandbox refuses", () => {
  test.each<[string, object, string]>([
    ["no metadata", { metadata: null }, "config.metadata is missing"],
    ["no name", { metadata: { namespace: "default" } }, "config.metadata.name is missing"],
    ["a name with a slash", { metadata: { name: "../x", namespace: "n" } }, 'config.metadata.name is "../x"'],
    ["a uid of ..", { metadata: { name: "x", uid: "..", namespace: "n" } }, 'config.metadata.uid is ".."'],
    ["a hostname of 65 bytes", { hostname: "h".repeat(65) }, "config.hostname is"],
    ["a hostname with a line break", { hostname: "a\nb" }, "config.hostname is"],
    ["a relative log directory", { logDirectory: "logs" }, 'config.log_directory is "logs"'],
    ["a log directory with ..", { logDirectory: "/var/log/../../etc" }, "config.log_directory is"],
    [
      "a DNS server with a line break",
      { dnsConfig: { servers: ["1.1.1.1\noptions x"] } },
      "config.dns_config.servers[0]",
    ],
    [
      "port 70000",
      { portMappings: [{ hostPort: 70_000, containerPort: 1 }] },
      "config.port_mappings[0].host_port is 70000",
    ],
    ["container port 0", { portMappings: [{ hostPort: 80 }] }, "config.port_mappings[0].container_port is 0"],
    ["an unknown protocol", { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 9 }] }, "protocol is 9"],
    ["an invalid host IP", { portMappings: [{ hostPort: 80, containerPort: 80, hostIp: "x" }] }, 'host_ip is "x"'],
    [
      "a relative cgroup that is not a slice",
      { linux: { cgroupParent: "kubepods" } },
      'config.linux.cgroup_parent is "kubepods"',
    ],
    ["a cgroup with ..", { linux: { cgroupParent: "/a/../.." } }, "config.linux.cgroup_parent"],
    ["a sysctl of the host", { linux: { sysctls: { "kernel.core_pattern": "|/x" } } }, "config.linux.sysctls key"],
    ["a sysctl with ..", { linux: { sysctls: { "net./../kernel/core_pattern": "x" } } }, "config.linux.sysctls key"],
    ["a sysctl with two lines", { linux: { sysctls: { "net.core.somaxconn": "1\n2" } } }, "somaxconn"],
    [
      "a network sysctl on the host's network",
      { linux: { sysctls: { "net.core.somaxconn": "1" }, securityContext: { namespaceOptions: { network: 2 } } } },
      "cannot be combined with namespace_options.network = NODE",
    ],
    [
      "a group without a user",
      linux({ runAsGroup: { value: 5 } }),
      "run_as_group cannot be combined with an unset run_as_user",
    ],
    ["user id 2^32 - 1", linux({ runAsUser: { value: "4294967295" } }), "run_as_user is 4294967295"],
    ["a negative group", linux({ supplementalGroups: [-1] }), "supplemental_groups[0] is -1"],
    ["a private network for a container", linux({ namespaceOptions: { network: 1 } }), "namespace_options.network is"],
    ["a private IPC namespace for a container", linux({ namespaceOptions: { ipc: 1 } }), "namespace_options.ipc is"],
    ["PID mode TARGET", linux({ namespaceOptions: { pid: 3, targetId: "x" } }), "namespace_options.pid is"],
    ["a namespace mode 7", linux({ namespaceOptions: { pid: 7 } }), "namespace_options.pid is 7"],
    ["userns mode CONTAINER", userns({ mode: 1 }), "userns_options.mode is"],
    ["userns mode TARGET", userns({ mode: 3 }), "userns_options.mode is"],
    ["no mapping", userns({ mode: 0 }), "userns_options.uids is"],
    [
      "a user namespace with the node's PID namespace",
      linux({ namespaceOptions: { pid: 2, usernsOptions: { mode: 0, uids: [one], gids: [one] } } }),
      "userns_options cannot be combined with the node's PID namespace",
    ],
    [
      "a user namespace with the node's IPC namespace",
      linux({ namespaceOptions: { ipc: 2, usernsOptions: { mode: 0, uids: [one], gids: [one] } } }),
      "userns_options cannot be combined with the node's IPC namespace",
    ],
    ["two mappings", userns({ mode: 0, uids: [one, one], gids: [one] }), "userns_options.uids is"],
    [
      "container id 0 unmapped",
      userns({ mode: 0, uids: [one], gids: [{ ...one, containerId: 1 }] }),
      "gids[0].container_id is 1",
    ],
    [
      "a mapping past the last id",
      userns({ mode: 0, uids: [{ ...one, hostId: 4_294_967_000 }], gids: [one] }),
      "length is 65536",
    ],
    ["mappings on the host's ids", userns({ mode: 2, uids: [one] }), "userns_options.uids is"],
    ["a seccomp profile type 9", linux({ seccomp: { profileType: 9 } }), "seccomp.profile_type is 9"],
    [
      "a relative seccomp profile",
      linux({ seccomp: { profileType: 2, localhostRef: "x" } }),
      "seccomp.localhost_ref is",
    ],
    ["an invalid deprecated seccomp profile", linux({ seccompProfilePath: "x" }), "seccomp_profile_path is"],
    ["an oom score of 2000", { linux: { overhead: { oomScoreAdj: 2000 } } }, "overhead.oom_score_adj is 2000"],
  ])("%s", async (_name, more, sentence) => {
    await using edge = await serveEdge(memoryPods());
    const { code, details } = await failure(edge.client.call("RunPodSandbox", { config: sandboxConfig(more) }));
    expect(code).toBe(status.INVALID_ARGUMENT);
    expect(details).toContain(sentence);
  });
});

describe("CreateContainer refuses", () => {
  const mount = (more: object) => ({ mounts: [{ containerPath: "/data", hostPath: "/srv", ...more }] });
  test.each<[string, object, string]>([
    ["no metadata", { metadata: null }, "config.metadata is missing"],
    ["no image", { image: null }, "config.image is missing"],
    ["an empty image name", { image: {} }, "config.image.image is missing"],
    ["a log path with ..", { logPath: "../../etc/cron.d/x" }, 'config.log_path is "../../etc/cron.d/x"'],
    ["an absolute log path", { logPath: "/etc/passwd" }, "config.log_path is"],
    ["a relative working directory", { workingDir: "src" }, "config.working_dir is"],
    ["a NUL in an argument", { args: ["a\0b"] }, "config.args[0] is"],
    ["a variable without a name", { envs: [{ value: Buffer.from("x") }] }, "config.envs[0].key is missing"],
    ["a variable with = in its name", { envs: [{ key: "a=b" }] }, "config.envs[0].key is"],
    ["a variable with a NUL in its name", { envs: [{ key: "a\0b" }] }, "config.envs[0].key is"],
    ["a variable with a NUL", { envs: [{ key: "a", value: Buffer.from("x\0y") }] }, "config.envs[0].value is"],
    ["a relative mount target", mount({ containerPath: "data" }), "config.mounts[0].container_path is"],
    ["a mount without a source", mount({ hostPath: "" }), "config.mounts[0].host_path is missing"],
    ["an unknown propagation", mount({ propagation: 5 }), "config.mounts[0].propagation is 5"],
    [
      "recursive read-only without read-only",
      mount({ recursiveReadOnly: true }),
      "recursive_read_only cannot be combined with readonly = false",
    ],
    [
      "recursive read-only with propagation",
      mount({ recursiveReadOnly: true, readonly: true, propagation: 1 }),
      "recursive_read_only",
    ],
    [
      "an image and a host path",
      mount({ image: { image: "x" }, readonly: true }),
      "image cannot be combined with host_path",
    ],
    [
      "a writable image",
      mount({ image: { image: "x" }, hostPath: "" }),
      "image cannot be combined with readonly = false",
    ],
    [
      "an invalid huge page size",
      { linux: { resources: { hugepageLimits: [{ pageSize: "2MiB" }] } } },
      'hugepage_limits[0].page_size is "2MiB"',
    ],
    ["mount option suid", mount({ mountOptions: ["suid"] }), 'config.mounts[0].mount_options[0] is "suid"'],
    [
      "device permissions x",
      { devices: [{ containerPath: "/dev/a", hostPath: "/dev/a", permissions: "x" }] },
      "permissions",
    ],
    ["a CDI name without class", { CDIDevices: [{ name: "gpu" }] }, 'config.CDI_devices[0].name is "gpu"'],
    ["signal 99", { stopSignal: 99 }, "config.stop_signal is 99"],
    [
      "user and user name",
      linux({ runAsUser: { value: 1 }, runAsUsername: "a" }),
      "run_as_username cannot be combined",
    ],
    ["TARGET without a target", linux({ namespaceOptions: { pid: 3 } }), "namespace_options.target_id is missing"],
    ["a relative masked path", linux({ maskedPaths: ["proc"] }), "masked_paths[0] is"],
    [
      "a cgroup file with ..",
      { linux: { resources: { unified: { "../x": "1" } } } },
      "config.linux.resources.unified key",
    ],
    ["a CPU period of 1 µs", { linux: { resources: { cpuPeriod: 1 } } }, "cpu_period is 1"],
    ["an invalid CPU list", { linux: { resources: { cpusetCpus: "0;1" } } }, "cpuset_cpus is"],
  ])("%s", async (_name, more, sentence) => {
    await using edge = await serveEdge(memoryPods());
    const request = { podSandboxId: "abc", config: containerConfig(more) };
    const { code, details } = await failure(edge.client.call("CreateContainer", request));
    expect(code).toBe(status.INVALID_ARGUMENT);
    expect(details).toContain(sentence);
  });
});

test("a sandbox's configuration is returned byte for byte", async () => {
  const pods = memoryPods();
  await using edge = await serveEdge(pods);
  // Encoded by hand: in object literals __proto__ would not be a key.
  const odd = Object.fromEntries([
    ["__proto__", "polluted"],
    ["constructor", ""],
    ["kubernetes.io/ключ", "\u0000 \u{1f6a2}"],
  ]);
  const config = runtime.v1.PodSandboxConfig.encode({
    metadata: { name: "web", uid: "u", namespace: "default", attempt: 4_294_967_295 },
    labels: odd,
    annotations: odd,
    linux: {
      sysctls: { "net.core.somaxconn": "1024", "kernel.shm_rmid_forced": "1" },
      securityContext: {
        namespaceOptions: { pid: 1, usernsOptions: { mode: 0, uids: [one], gids: [one] } },
        seccompProfilePath: "localhost//etc/seccomp.json",
      },
    },
    portMappings: [{ containerPort: 53 }, { containerPort: 53, hostPort: 53, protocol: 1, hostIp: "::1" }],
  });
  const request = runtime.v1.RunPodSandboxRequest.encode({
    config: runtime.v1.PodSandboxConfig.decode(config.finish()),
  }).finish();
  const answer = await edge.client.callBytes("/runtime.v1.RuntimeService/RunPodSandbox", request);
  const { podSandboxId } = runtime.v1.RunPodSandboxResponse.decode(answer);

  const view = pods.sandboxViews.get(podSandboxId);
  expect(view?.config.security.seccomp).toEqual({ type: "localhost", path: "/etc/seccomp.json" });
  expect(view?.config.portMappings).toEqual([{ containerPort: 53, hostPort: 53, protocol: "udp", hostIp: "::1" }]);
  expect([...(view?.config.labels ?? [])]).toEqual(Object.entries(odd));

  const listed = runtime.v1.ListPodSandboxResponse.decode(
    await edge.client.callBytes("/runtime.v1.RuntimeService/ListPodSandbox", new Uint8Array()),
  );
  expect(Object.entries(listed.items[0]?.labels ?? {})).toEqual(Object.entries(odd));
  expect(Object.entries(listed.items[0]?.annotations ?? {})).toEqual(Object.entries(odd));
  expect(Object.getPrototypeOf({})).not.toHaveProperty("polluted");

  const status = await edge.client.call("PodSandboxStatus", { podSandboxId, verbose: true });
  expect(status).toMatchObject({
    timestamp: "1",
    info: { info: expect.stringContaining('"pid":42') },
    status: {
      metadata: { attempt: 4_294_967_295 },
      createdAt: "1795223900123456789",
      network: { ip: "10.1.0.2", additionalIps: [{ ip: "fd00::2" }] },
      linux: { namespaces: { options: { pid: "CONTAINER", usernsOptions: { mode: "POD", uids: [one] } } } },
    },
  });
});

test("any image_sub_path on a mount without an image is ignored", async () => {
  const pods = memoryPods();
  await using edge = await serveEdge(pods);
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  const mounts = [{ containerPath: "/data", hostPath: "/srv", imageSubPath: "../sub" }];
  const { containerId } = await edge.client.call("CreateContainer", {
    podSandboxId,
    config: containerConfig({ mounts }),
  });
  expect(pods.containerViews.get(String(containerId))?.config.mounts).toMatchObject([{ imageSubPath: "" }]);
});

test("a container is returned with every field, and its times to the nanosecond", async () => {
  const pods = memoryPods();
  await using edge = await serveEdge(pods);
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  const bytes = Buffer.from([0xff, 0xfe, 0x3d, 0x0a]);
  const resources = { cpuQuota: "-1", memoryLimitInBytes: "9007199254740993", unified: { "memory.high": "1" } };
  const mounts = [
    { containerPath: "/a", hostPath: "/b", propagation: "PROPAGATION_BIDIRECTIONAL", uidMappings: [one] },
    { containerPath: "/c", image: { image: "i" }, readonly: true, imageSubPath: "d/e", mountOptions: ["noexec"] },
  ];
  const { containerId } = await edge.client.call("CreateContainer", {
    podSandboxId,
    config: containerConfig({
      envs: [{ key: "RAW", value: bytes }],
      mounts,
      stopSignal: "SIGNAL_SIGRTMINPLUS3",
      linux: { resources, securityContext: { runAsUser: { value: 0 }, runAsGroup: { value: "4294967294" } } },
    }),
  });
  const view = pods.containerViews.get(String(containerId));
  expect(view?.config.envs).toEqual([{ name: "RAW", value: bytes }]);
  expect(view?.config.stopSignal).toBe("SIGRTMINPLUS3");
  expect(view?.config.security).toMatchObject({ runAsUser: 0n, runAsGroup: 4_294_967_294n });

  const answer = await edge.client.call("ContainerStatus", { containerId, verbose: true });
  expect(answer).toMatchObject({
    info: { info: '{"pid":43,"createdAt":"1795223900123456789"}' },
    status: {
      state: "CONTAINER_EXITED",
      createdAt: "1795223900123456789",
      finishedAt: "1795223900123456790",
      exitCode: 137,
      reason: "OOMKilled",
      mounts,
      stopSignal: "SIGNAL_SIGRTMINPLUS3",
      resources: { linux: resources },
      user: { linux: { uid: "1000", gid: "4294967294", supplementalGroups: ["5"] } },
      imageId: view?.imageId,
      imageRef: view?.shownImage.reference,
      logPath: "/var/log/pods/x/0.log",
    },
  });
  expect(await edge.client.call("ListContainers", { filter: { podSandboxId } })).toMatchObject({
    containers: [
      { id: containerId, image: { image: "docker.io/library/busybox:1" }, createdAt: "1795223900123456789" },
    ],
  });
});

test("a pod's resources are recorded as a kubelet computes them: overhead subtracted from -1, or from a small quota", async () => {
  const noted: SandboxResources[] = [];
  await using edge = await serveEdge({
    ...memoryPods(),
    updateSandboxResources: async (_id, change) => void noted.push(change),
  });
  const update = (resources: object) =>
    edge.client.call("UpdatePodSandboxResources", { podSandboxId: "abc", overhead: { cpuQuota: 1000 }, resources });
  await update({ cpuPeriod: 100_000, cpuQuota: -1001, cpuShares: 204, memoryLimitInBytes: -16_777_217 });
  await update({ cpuPeriod: 100_000, cpuQuota: 500 });
  expect(noted.map(({ resources }) => resources)).toMatchObject([
    { cpuPeriod: 100_000n, cpuQuota: -1n, cpuShares: 204n, memoryLimit: -1n },
    { cpuPeriod: 100_000n, cpuQuota: 500n },
  ]);
});

test("the longest grace period of a kubelet is accepted", async () => {
  const periods: bigint[] = [];
  const pods = memoryPods({
    stopContainer: async (_id, seconds) => {
      periods.push(seconds);
    },
  });
  await using edge = await serveEdge(pods);
  await edge.client.call("StopContainer", { containerId: "abc", timeout: Long.MAX_VALUE });
  expect(periods).toEqual([2n ** 63n - 1n]);
});

test("statistics keep 64 bits, and values that were not measured are absent", async () => {
  await using edge = await serveEdge(memoryPods());
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  await edge.client.call("CreateContainer", { podSandboxId, config: containerConfig() });
  const { stats: containers } = await edge.client.call("ListContainerStats");
  expect(containers).toMatchObject([
    {
      attributes: { metadata: { name: "main" } },
      cpu: { usageCoreNanoSeconds: { value: "123456789012345678" }, usageNanoCores: null },
      memory: null,
    },
  ]);
  const { stats: sandboxes } = await edge.client.call("ListPodSandboxStats");
  expect(sandboxes).toMatchObject([
    {
      attributes: { id: podSandboxId, labels: { app: "web" } },
      linux: {
        cpu: null,
        process: { processCount: { value: "3" } },
        network: { defaultInterface: { rxBytes: { value: "18446744073709551615" } } },
      },
    },
  ]);
});

test("Version, Status and RuntimeConfig return what kubelets need", async () => {
  await using edge = await serveEdge(memoryPods());
  expect(await edge.client.call("Version")).toEqual({
    version: "0.1.0",
    runtimeName: "keelson",
    runtimeVersion: "1.2.3",
    runtimeApiVersion: "v1",
  });
  expect(await edge.client.call("Status", { verbose: true })).toMatchObject({
    status: {
      conditions: [
        { type: "RuntimeReady", status: true },
        { type: "NetworkReady", status: true },
      ],
    },
    runtimeHandlers: [{ name: "", features: { recursiveReadOnlyMounts: true } }],
    features: { supplementalGroupsPolicy: true },
    info: { config: '{"root":"/r"}', network: '{"name":"test"}' },
  });
  expect((await edge.client.call("Status")).info).toEqual({});
  expect(await edge.client.call("RuntimeConfig")).toEqual({ linux: { cgroupDriver: "SYSTEMD" } });
});
