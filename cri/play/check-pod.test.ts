// Values of a pod's fields that Kubernetes refuses too, each with its path. The fields themselves are checked in
// manifest.test.ts.

import { describe, expect, test } from "vitest";
import { checkPodSpec } from "./check-pod.ts";
import type { Container, PodSpec } from "./supported.ts";

const data = new Map([["k", Buffer.from("v")]]);
const values = new Map([["n/have", { variables: data, files: data }]]);
const place = {
  at: "m.yaml: Pod n/p",
  path: "spec",
  kind: "Pod",
  namespace: "n",
  manifest: { configMaps: values, secrets: values },
} as const;

const volumes = ["one", "two"].map((name) => ({ name, emptyDir: {} }));

function check(container: Partial<Container>, spec: Partial<PodSpec> = {}): void {
  checkPodSpec({ volumes, ...spec, containers: [{ name: "a", image: "x", ...container }] }, place);
}

const exec = { command: ["x"] };

describe("a container is refused", () => {
  test.each<[Partial<Container>, string]>([
    [
      { securityContext: { privileged: true, allowPrivilegeEscalation: false } },
      "securityContext.allowPrivilegeEscalation: privileged is set too",
    ],
    [{ securityContext: { runAsNonRoot: true, runAsUser: 0 } }, "securityContext.runAsUser: runAsNonRoot is set too"],
    [{ securityContext: { runAsUser: 2 ** 31 } }, "securityContext.runAsUser: it is 2147483648"],
    [
      { securityContext: { seccompProfile: { type: "Localhost", localhostProfile: "x" } } },
      'securityContext.seccompProfile.type: it is "Localhost"',
    ],
    [
      { securityContext: { appArmorProfile: { type: "Localhost" } } },
      "securityContext.appArmorProfile.localhostProfile: the type is Localhost",
    ],
    [
      { securityContext: { appArmorProfile: { type: "Unconfined", localhostProfile: "x" } } },
      "securityContext.appArmorProfile.localhostProfile: the type is Unconfined",
    ],
    [{ env: [{ name: "A", value: "a\0b" }] }, "env[0].value: it contains a NUL"],
    [{ env: [{ name: "A", valueFrom: {} }] }, "env[0].valueFrom: it has 0 sources"],
    [
      { env: [{ name: "A", valueFrom: { secretKeyRef: { name: "have", key: "none" } } }] },
      "env[0].valueFrom.secretKeyRef.key: have has no key none",
    ],
    [{ envFrom: [{}] }, "envFrom[0]: it needs one source"],
    [{ envFrom: [{ configMapRef: { name: "have" }, secretRef: { name: "have" } }] }, "envFrom[0]: it needs one source"],
    [{ envFrom: [{ prefix: "A=", secretRef: { name: "have" } }] }, 'envFrom[0].prefix: it is "A="'],
    [
      {
        ports: [
          { name: "web", containerPort: 1 },
          { name: "web", containerPort: 2 },
        ],
      },
      "ports[1].name: it is web",
    ],
    [{ ports: [{ containerPort: 1, hostPort: 1, hostIP: "localhost" }] }, 'ports[0].hostIP: it is "localhost"'],
    [{ ports: [{ containerPort: 65_536 }] }, "ports[0].containerPort: it is 65536"],
    [{ volumeMounts: [{ name: "one", mountPath: "/a:b" }] }, 'volumeMounts[0].mountPath: it is "/a:b"'],
    [
      { volumeMounts: volumes.map(({ name }) => ({ name, mountPath: "/a" })) },
      "volumeMounts[1].mountPath: another volume is mounted there",
    ],
    [
      {
        volumeMounts: [
          {
            name: "one",
            mountPath: "/a",
            readOnly: true,
            recursiveReadOnly: "Enabled",
            mountPropagation: "HostToContainer",
          },
        ],
      },
      "volumeMounts[0].recursiveReadOnly: it needs readOnly and no mountPropagation",
    ],
    [{ livenessProbe: { exec: { command: [] } } }, "livenessProbe.exec.command: it is missing"],
    [{ livenessProbe: { exec, successThreshold: 2 } }, "livenessProbe.successThreshold: it is 2"],
    [{ startupProbe: { exec, successThreshold: 2 } }, "startupProbe.successThreshold: it is 2"],
    [
      { readinessProbe: { exec, terminationGracePeriodSeconds: 1 } },
      "readinessProbe.terminationGracePeriodSeconds: a readiness probe does not stop containers",
    ],
    [{ livenessProbe: { httpGet: { port: 1, scheme: "FTP" } } }, 'livenessProbe.httpGet.scheme: it is "FTP"'],
  ])("%j", (container, message) => {
    expect(() => check(container)).toThrow(`spec.containers[0].${message}`);
  });

  test("if its host port is not its own port on the host's network", () => {
    const ports = [{ containerPort: 80, hostPort: 81 }];
    expect(() => check({ ports }, { hostNetwork: true })).toThrow(
      "containers[0].ports[0].hostPort: the pod is on the host's network",
    );
  });
});

test("one port number can be used for TCP and UDP, a readiness probe can need several successes", () => {
  const port = { containerPort: 53, hostPort: 53 };
  check({ ports: [port, { ...port, protocol: "UDP" }], readinessProbe: { exec, successThreshold: 2 } });
});

describe("a pod is refused", () => {
  const file = (path: string, key = "k") => ({
    volumes: [{ name: "v", secret: { secretName: "have", items: [{ key, path }] } }],
  });
  test.each<[Partial<PodSpec>, string]>([
    [{ hostAliases: [{ ip: "host" }] }, 'hostAliases[0].ip: it is "host"'],
    [{ hostname: "A.b" }, "hostname: it is A.b"],
    [{ automountServiceAccountToken: true }, "automountServiceAccountToken = true: not supported"],
    [{ hostPID: true, shareProcessNamespace: true }, "shareProcessNamespace: hostPID is set too"],
    [{ securityContext: { runAsUser: -1 } }, "securityContext.runAsUser: it is -1"],
    [{ volumes: [...volumes, ...volumes] }, "volumes[2].name: another volume is named one"],
    [{ volumes: [{ name: "v", image: {} }] }, "volumes[0].image.reference: it is missing"],
    [file("/etc/passwd"), 'volumes[0].secret.items[0].path: it is "/etc/passwd"'],
    [file("a/../../b"), 'volumes[0].secret.items[0].path: it is "a/../../b"'],
    [file("a", "none"), "volumes[0].secret.items[0].key: have has no key none"],
    [
      { volumes: [{ name: "v", secret: { secretName: "have", items: [{ key: "k", path: "a", mode: 0o4755 }] } }] },
      "volumes[0].secret.items[0].mode: it is 2541",
    ],
    [
      { volumes: [{ name: "v", configMap: { name: "have", defaultMode: 0o1000 } }] },
      "volumes[0].configMap.defaultMode: it is 512",
    ],
  ])("%j", (spec, message) => {
    expect(() => check({}, spec)).toThrow(`spec.${message}`);
  });
});
