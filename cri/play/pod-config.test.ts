// A pod's CRI configuration: environment, resources, users, and the complete one of a sandbox and a container.

import { totalmem } from "node:os";
import { describe, expect, test } from "vitest";
import { runtime } from "../api/generated/messages.js";
import { environmentOf, expand } from "./environment.ts";
import { containerConfig, hostnameOf, sandboxConfig } from "./pod-config.ts";
import { amounts, containerResources, podResources, qosClass, quantity } from "./resources.ts";
import { containerSecurity, sandboxSecurity } from "./security.ts";
import type { Container, PodSpec } from "./supported.ts";

const container = (more: Partial<Container> = {}): Container => ({ name: "app", image: "x", ...more });
const specOf = (...containers: Container[]): PodSpec => ({ containers });
const limits = (cpu: string, memory: string) => ({ resources: { limits: { cpu, memory } } });

const values = (key: string, bytes: Buffer) => ({ variables: new Map([[key, bytes]]), files: new Map([[key, bytes]]) });

describe("the environment", () => {
  const source = {
    facts: {
      name: "web-0",
      namespace: "default",
      uid: "u",
      nodeName: "node",
      podIps: ["10.0.0.7", "fd00::7"],
      hostIps: ["192.0.2.1"],
    },
    template: { labels: { app: "web" }, annotations: { "example.com/note": "kept" } },
    manifest: {
      configMaps: new Map([["default/c", values("k", Buffer.from("v"))]]),
      secrets: new Map([["default/s", values("raw", Buffer.from([0xff, 1]))]]),
    },
  };
  const variables = (more: Partial<Container>) => Object.fromEntries(environmentOf(container(more), source));
  const field = (fieldPath: string) => ({ env: [{ name: "A", valueFrom: { fieldRef: { fieldPath } } }] });

  test.each([
    ["metadata.name", "web-0"],
    ["metadata.labels['app']", "web"],
    ["metadata.annotations['example.com/note']", "kept"],
    ["metadata.labels['none']", ""],
    ["status.podIP", "10.0.0.7"],
    ["status.podIPs", "10.0.0.7,fd00::7"],
    ["status.hostIP", "192.0.2.1"],
    ["spec.nodeName", "node"],
  ])("has the pod's own field %s", (path, value) => {
    expect(variables(field(path)).A?.toString()).toBe(value);
  });

  test("has envFrom overridden by env, and keeps binary values unchanged", () => {
    const envFrom = [
      { configMapRef: { name: "c" }, prefix: "P_" },
      { secretRef: { name: "s" } },
      { secretRef: { name: "none", optional: true } },
    ];
    const env = [
      { name: "P_k", value: "own" },
      { name: "K", valueFrom: { configMapKeyRef: { name: "c", key: "k" } } },
      { name: "NONE", valueFrom: { secretKeyRef: { name: "s", key: "none", optional: true } } },
    ];
    expect(variables({ envFrom, env })).toEqual({
      P_k: Buffer.from("own"),
      raw: Buffer.from([0xff, 1]),
      K: Buffer.from("v"),
    });
  });

  test("expands only variables defined before", () => {
    const env = [
      { name: "A", value: "a" },
      { name: "B", value: "$(A)-$(C)-$$(A)-$(-$A-$" },
      { name: "C", value: "$(B)" },
    ];
    expect(Object.values(variables({ env })).map(String)).toEqual(["a", "a-$(C)-$(A)-$(-$A-$", "a-$(C)-$(A)-$(-$A-$"]);
    expect(
      expand(
        "$(X)",
        new Map([
          ["X", Buffer.from("$(Y)")],
          ["Y", Buffer.from("no")],
        ]),
      ),
    ).toBe("$(Y)");
  });
});

describe("resources", () => {
  test.each<[string | number, number | undefined]>([
    ["100m", 0.1],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["64Mi", 2 ** 26],
    ["1e3", 1000],
    ["2k", 2000],
    [0.5, 0.5],
    [".5", 0.5],
    ["0", 0],
    ["-1", undefined],
    ["1 Gi", undefined],
    ["1X", undefined],
    ["", undefined],
    ["NaN", undefined],
  ])("%s is %s", (text, value) => {
    const number = quantity(text);
    if (value === undefined) expect(number).toBeUndefined();
    else expect(number).toBeCloseTo(value);
  });

  test("an unset request is the limit; QoS classes and OOM scores follow", () => {
    const guaranteed = container(limits("500m", "64Mi"));
    expect(amounts(guaranteed)).toEqual({
      cpuLimit: 0.5,
      cpuRequest: 0.5,
      memoryLimit: 2 ** 26,
      memoryRequest: 2 ** 26,
    });
    expect(qosClass(specOf(guaranteed))).toBe("Guaranteed");
    expect(qosClass(specOf(container()))).toBe("BestEffort");
    expect(qosClass(specOf(guaranteed, container()))).toBe("Burstable");
    expect(qosClass({ ...specOf(guaranteed), initContainers: [container()] })).toBe("Burstable");
    for (const requests of [{ cpu: "250m" }, { memory: "1Mi" }])
      expect(qosClass(specOf(container({ resources: { ...guaranteed.resources, requests } })))).toBe("Burstable");
    const burstable = container({ resources: { requests: { memory: String(Math.floor(totalmem() / 4)) } } });
    const score = (spec: PodSpec, of: Container) => Number(containerResources(spec, of).oomScoreAdj);
    expect(score(specOf(guaranteed), guaranteed)).toBe(-997);
    expect(score(specOf(container()), container())).toBe(1000);
    expect(score(specOf(burstable), burstable)).toBeCloseTo(751, -1);
    expect(score(specOf(burstable, container()), container())).toBe(999);
    const huge = container({ resources: { requests: { memory: String(2 * totalmem()) } } });
    expect(score(specOf(huge), huge)).toBe(3);
    const sidecar = container({ restartPolicy: "Always" });
    expect(score({ ...specOf(burstable), initContainers: [sidecar] }, sidecar)).toBeCloseTo(751, -1);
  });

  test("shares, quotas and memory are computed as in the kubelet", () => {
    const of = (more: Partial<Container>) => {
      const { cpuShares, cpuQuota, cpuPeriod, memoryLimitInBytes } = containerResources(
        specOf(container(more)),
        container(more),
      );
      return [cpuShares, cpuQuota, cpuPeriod, memoryLimitInBytes].map((value) => Number(value ?? 0));
    };
    expect(of({})).toEqual([2, 0, 0, 0]);
    expect(of(limits("500m", "64Mi"))).toEqual([512, 50_000, 100_000, 2 ** 26]);
    expect(of(limits("1m", "1"))).toEqual([2, 1000, 100_000, 1]);
    expect(of({ resources: { requests: { cpu: "2" } } })).toEqual([2048, 0, 0, 0]);
    expect(of({ resources: { requests: { cpu: "1k" } } })).toEqual([262_144, 0, 0, 0]);
    // Rounded up, to a thousandth of a CPU and a byte; 1.1 * 1000 is slightly more than 1100.
    expect(of(limits("1.0005", "1.5"))).toEqual([1025, 100_100, 100_000, 2]);
    expect(of(limits("1.1", "0"))).toEqual([1126, 110_000, 100_000, 0]);
  });

  test("a pod has the sum, and a limit only if all of its containers have one", () => {
    const both = podResources(specOf(container(limits("1", "1Mi")), container(limits("2", "2Mi"))));
    expect([both.cpuShares, both.cpuQuota, both.memoryLimitInBytes].map(Number)).toEqual([3072, 300_000, 3 * 2 ** 20]);
    expect(podResources(specOf(container(limits("1", "1Mi")), container())).memoryLimitInBytes).toBeUndefined();
  });
});

describe("users and profiles", () => {
  const image = { uid: undefined, username: "" };
  const secure = (
    pod: PodSpec["securityContext"],
    own: Container["securityContext"],
    user: { uid: number | undefined; username: string } = image,
  ) =>
    containerSecurity(
      { ...specOf(container()), ...(pod ? { securityContext: pod } : {}) },
      container(own ? { securityContext: own } : {}),
      user,
    );

  test("the container's settings override the pod's, which override the image's", () => {
    expect(
      secure({ runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4] }, { runAsUser: 5 }),
    ).toMatchObject({
      runAsUser: { value: expect.objectContaining({ low: 5 }) },
      runAsGroup: { value: expect.objectContaining({ low: 2 }) },
      supplementalGroups: [expect.objectContaining({ low: 3 }), expect.objectContaining({ low: 4 })],
    });
    expect(secure({}, {}, { uid: 33, username: "" })).toMatchObject({
      runAsUser: { value: expect.objectContaining({ low: 33 }) },
    });
    expect(secure({}, {}, { uid: undefined, username: "www" })).toMatchObject({ runAsUsername: "www" });
  });

  test("a container is privileged, has a read-only root and changed capabilities only if it says so", () => {
    const none = { addCapabilities: [], dropCapabilities: [] };
    expect(secure({}, {})).toMatchObject({ privileged: false, readonlyRootfs: false, capabilities: none });
    const capabilities = { add: ["NET_ADMIN"], drop: ["ALL"] };
    expect(secure({}, { privileged: true, readOnlyRootFilesystem: true, capabilities })).toMatchObject({
      privileged: true,
      readonlyRootfs: true,
      capabilities: { addCapabilities: ["NET_ADMIN"], dropCapabilities: ["ALL"] },
    });
  });

  test("a sandbox is privileged if one of its containers is, and runs as the pod's user; a group alone is not passed", () => {
    const privileged = container({ securityContext: { privileged: true } });
    expect(sandboxSecurity(specOf(container()))).toMatchObject({ privileged: false });
    expect(sandboxSecurity(specOf(container(), privileged))).toMatchObject({ privileged: true });
    expect(sandboxSecurity({ ...specOf(container()), initContainers: [privileged] })).toMatchObject({
      privileged: true,
    });
    const users = (context: NonNullable<PodSpec["securityContext"]>) => {
      const { runAsUser, runAsGroup } = sandboxSecurity({ ...specOf(container()), securityContext: context });
      return [runAsUser, runAsGroup].map((id) => id && Number(id.value));
    };
    expect(users({ runAsUser: 5, runAsGroup: 6 })).toEqual([5, 6]);
    expect(users({ runAsGroup: 6 })).toEqual([undefined, undefined]);
  });

  test("supplementary groups are merged with those of the image, unless the policy is Strict", () => {
    const { Merge, Strict } = runtime.v1.SupplementalGroupsPolicy;
    expect(secure({}, {})).toMatchObject({ supplementalGroupsPolicy: Merge });
    expect(secure({ supplementalGroupsPolicy: "Strict" }, {})).toMatchObject({ supplementalGroupsPolicy: Strict });
  });

  test("AppArmor profiles: the container's, or the pod's, or none", () => {
    const { ProfileType } = runtime.v1.SecurityProfile;
    const local = { appArmorProfile: { type: "Localhost", localhostProfile: "mine" } };
    const applied = { profileType: ProfileType.Localhost, localhostRef: "mine" };
    expect(secure(local, {})).toMatchObject({ apparmor: applied });
    expect(secure({ appArmorProfile: { type: "Unconfined" } }, local)).toMatchObject({ apparmor: applied });
    expect(secure({}, {})).not.toHaveProperty("apparmor");
  });

  test("runAsNonRoot rejects root, an image that runs as root, and a user name", () => {
    expect(() => secure({ runAsNonRoot: true }, {})).toThrow("its image runs as root");
    expect(() => secure({ runAsNonRoot: true }, {}, { uid: 0, username: "" })).toThrow("its image runs as root");
    expect(() => secure({ runAsNonRoot: true }, {}, { uid: undefined, username: "www" })).toThrow(
      "www, which is not numeric",
    );
    expect(secure({ runAsNonRoot: true }, { runAsNonRoot: false })).toBeDefined();
    expect(secure({ runAsNonRoot: true, runAsUser: 7 }, {})).toBeDefined();
  });

  test("seccomp defaults to RuntimeDefault; forbidden privilege escalation sets no_new_privs", () => {
    const { ProfileType } = runtime.v1.SecurityProfile;
    expect(secure({}, {})).toMatchObject({ seccomp: { profileType: ProfileType.RuntimeDefault }, noNewPrivs: false });
    expect(secure({ seccompProfile: { type: "Unconfined" } }, { allowPrivilegeEscalation: false })).toMatchObject({
      seccomp: { profileType: ProfileType.Unconfined },
      noNewPrivs: true,
    });
  });

  test("namespaces of the host and of the pod", () => {
    const { NamespaceMode } = runtime.v1;
    const namespaces = (more: Partial<PodSpec>) =>
      sandboxSecurity({ ...specOf(container()), ...more }).namespaceOptions;
    expect(namespaces({})).toEqual({
      network: NamespaceMode.POD,
      ipc: NamespaceMode.POD,
      pid: NamespaceMode.CONTAINER,
    });
    expect(namespaces({ shareProcessNamespace: true })).toMatchObject({ pid: NamespaceMode.POD });
    expect(namespaces({ hostPID: true, hostIPC: true, hostNetwork: true })).toEqual({
      network: NamespaceMode.NODE,
      ipc: NamespaceMode.NODE,
      pid: NamespaceMode.NODE,
    });
  });
});

describe("the configuration", () => {
  const pod = { namespace: "n", name: "p", uid: "u", workload: "Pod n/p", run: "r", directory: "/play/p" };
  const facts = { name: "p", namespace: "n", uid: "u", nodeName: "node", podIps: [], hostIps: [] };
  const template = { labels: { app: "web", "io.kubernetes.pod.name": "forged" }, annotations: { note: "kept" } };
  const ours = {
    "io.kubernetes.pod.name": "p",
    "io.kubernetes.pod.namespace": "n",
    "io.kubernetes.pod.uid": "u",
    "io.keelson.play.workload": "Pod n/p",
    "io.keelson.play.run": "r",
  };

  test("of a sandbox has the pod's labels, but not in place of its own, and its sysctls, limits and ports", async () => {
    const ports = [{ containerPort: 53, hostPort: 5353, protocol: "UDP", hostIP: "127.0.0.1" }, { containerPort: 1 }];
    const sidecar = container({ restartPolicy: "Always", ports: [{ containerPort: 80, hostPort: 8080 }] });
    const spec = {
      ...specOf(container({ ...limits("1", "1Mi"), ports })),
      initContainers: [sidecar, container({ ports: [{ containerPort: 2, hostPort: 2 }] })],
      securityContext: { sysctls: [{ name: "net.core.somaxconn", value: "9" }] },
    };
    const { Protocol } = runtime.v1;
    const config = await sandboxConfig(pod, { ...template, spec }, 3);
    expect(config).toMatchObject({
      metadata: { name: "p", uid: "u", namespace: "n", attempt: 3 },
      hostname: "p",
      logDirectory: "/play/p/logs",
      labels: { app: "web", ...ours },
      annotations: { note: "kept" },
      portMappings: [
        { containerPort: 80, hostPort: 8080, hostIp: "", protocol: Protocol.TCP },
        { containerPort: 53, hostPort: 5353, hostIp: "127.0.0.1", protocol: Protocol.UDP },
      ],
      linux: { sysctls: { "net.core.somaxconn": "9" } },
    });
    expect(Number(config.linux?.resources?.memoryLimitInBytes)).toBe(1 << 20);
    const onHost = await sandboxConfig(pod, { ...template, spec: { ...spec, hostNetwork: true } }, 0);
    expect(onHost).toMatchObject({ hostname: "", portMappings: [] });
  });

  test("has a host name of at most 63 characters, which does not end with a hyphen or a dot", () => {
    const name = `${"a".repeat(61)}-.b`;
    expect(hostnameOf({ ...pod, name }, specOf(container()))).toBe("a".repeat(61));
    expect(hostnameOf(pod, { ...specOf(container()), hostname: "own" })).toBe("own");
  });

  test("of a container has its command with variables, its streams and /etc/hosts, unless a volume is mounted there", () => {
    const configOf = (more: Partial<Container>) =>
      containerConfig({
        pod,
        spec: specOf(container()),
        container: container(more),
        restartCount: 2,
        environment: { facts, template, manifest: { configMaps: new Map(), secrets: new Map() } },
        volumes: new Map([["v", { kind: "host", path: "/v", readOnly: false, isPodsOwn: true }]]),
        hostsFile: "/play/p/etc-hosts",
        imageOf: (reference) => `id of ${reference}`,
        imageUser: { uid: 0, username: "" },
      });
    const own = {
      command: ["$(A)", "$(B)"],
      args: ["$(A)"],
      workingDir: "/w",
      stdin: true,
      stdinOnce: true,
      tty: true,
    };
    expect(configOf({ ...own, env: [{ name: "A", value: "one" }] })).toMatchObject({
      metadata: { name: "app", attempt: 2 },
      image: { image: "id of x", userSpecifiedImage: "x" },
      command: ["one", "$(B)"],
      args: ["one"],
      workingDir: "/w",
      envs: [{ key: "A", value: Buffer.from("one") }],
      mounts: [{ containerPath: "/etc/hosts", hostPath: "/play/p/etc-hosts" }],
      labels: { ...ours, "io.kubernetes.container.name": "app" },
      annotations: { "io.kubernetes.container.restartCount": "2" },
      logPath: "app/2.log",
      stdin: true,
      stdinOnce: true,
      tty: true,
    });
    expect(configOf({})).toMatchObject({ stdin: false, stdinOnce: false, tty: false });
    const { mounts } = configOf({ volumeMounts: [{ name: "v", mountPath: "/etc/hosts" }] });
    expect(mounts?.map(({ hostPath }) => hostPath)).toEqual(["/v"]);
  });
});
