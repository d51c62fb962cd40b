// A pod's CRI configuration: environment, resources, users, names.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runtime } from "../api/generated/messages.js";
import { environmentOf, expand } from "./environment.ts";
import { dnsConfig, hostsFile, parseResolvConf } from "./name-files.ts";
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

describe("names", () => {
  test("resolv.conf as the kubelet reads it", () => {
    const text =
      "# nameserver 1.1.1.1\nnameserver 9.9.9.9 ; x\ndomain old\nsearch a.example b.example\noptions ndots:5 rotate\n";
    expect(parseResolvConf(text)).toEqual({
      servers: ["9.9.9.9"],
      searches: ["a.example", "b.example"],
      options: ["ndots:5", "rotate"],
    });
  });

  test("dnsPolicy None uses only dnsConfig", async () => {
    const spec = {
      ...specOf(container()),
      dnsPolicy: "None",
      dnsConfig: {
        nameservers: ["10.0.0.1"],
        searches: ["x"],
        options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
      },
    };
    expect(await dnsConfig(spec)).toEqual({ servers: ["10.0.0.1"], searches: ["x"], options: ["ndots:2", "edns0"] });
  });

  test("if systemd-resolved answers on the host's loopback, its upstream servers are used", async () => {
    const directory = await mkdtemp(join(tmpdir(), "keelson-names-"));
    const host = { own: join(directory, "resolv.conf"), behindStub: join(directory, "behind.conf") };
    const spec = specOf(container());
    try {
      await writeFile(host.own, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n");
      expect(await dnsConfig(spec, host)).toMatchObject({ servers: ["127.0.0.53"], searches: ["lan"] });
      await writeFile(host.behindStub, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n");
      expect(await dnsConfig(spec, host)).toEqual({
        servers: ["192.0.2.1", "192.0.2.2"],
        searches: ["lan"],
        options: [],
      });
      const onHost = { ...spec, hostNetwork: true };
      expect(await dnsConfig(onHost, host)).toMatchObject({ servers: ["127.0.0.53"] });
      await writeFile(host.own, "nameserver 127.0.0.1\nnameserver 192.0.2.9\n");
      expect(await dnsConfig(spec, host)).toMatchObject({ servers: ["127.0.0.1", "192.0.2.9"] });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test("/etc/hosts has the pod's addresses and its aliases", async () => {
    const spec = { ...specOf(container()), hostAliases: [{ ip: "192.0.2.9", hostnames: ["a", "b"] }] };
    const lines = (await hostsFile(spec, "web", ["10.0.0.7"])).split("\n");
    expect(lines).toContain("10.0.0.7\tweb");
    expect(lines).toContain("192.0.2.9\ta\tb");
  });
});
