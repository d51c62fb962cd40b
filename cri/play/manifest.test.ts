// Which manifests are rejected, with the path of the field, and how valid ones are read.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadManifests } from "./manifest.ts";
import { supportedModels } from "./supported.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-manifest-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function load(...texts: readonly string[]) {
  const files = texts.map((_, index) => join(directory, `m${index}.yaml`));
  for (const [index, file] of files.entries()) await writeFile(file, texts[index] ?? "");
  return await loadManifests(files);
}

/** A pod's spec and its first container as flow YAML. */
const pod = (container: string, spec = "restartPolicy: Never", name = "p") =>
  `{apiVersion: v1, kind: Pod, metadata: {name: ${name}}, spec: {${spec}, containers: [{name: a, image: x, ${container}}]}}`;
const volume = (source: string, mount: string) =>
  pod(`volumeMounts: [{name: v, mountPath: /v, ${mount}}]`, `volumes: [{name: v, ${source}}]`);
const job = (spec: string) =>
  `{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {${spec}, template: {spec: {restartPolicy: Never, containers: [{name: a, image: x}]}}}}`;
const secret = (data: string) => `{apiVersion: v1, kind: Secret, metadata: {name: s}, ${data}}\n---\n${pod("")}`;

describe("unsupported and unknown fields are rejected with their path", () => {
  test.each([
    [
      pod("lifecycle: {postStart: {exec: {command: [x]}}}"),
      "spec.containers[0].lifecycle.postStart: not supported by keelson play",
    ],
    [pod("terminationMessagePath: /x"), "spec.containers[0].terminationMessagePath: not supported"],
    [pod("livenessProbe: {grpc: {port: 1}}"), "spec.containers[0].livenessProbe.grpc.port: not supported"],
    [
      pod("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]"),
      "env[0].valueFrom.resourceFieldRef.resource: not supported",
    ],
    [
      pod("env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]"),
      "env[0].valueFrom.fieldRef.fieldPath = status.phase: not supported",
    ],
    [
      pod("resources: {limits: {nvidia.com/gpu: 1}}"),
      "spec.containers[0].resources.limits.nvidia.com/gpu: not supported",
    ],
    [pod("securityContext: {procMount: Unmasked}"), "spec.containers[0].securityContext.procMount: not supported"],
    [pod("restartPolicy: Always"), "spec.containers[0].restartPolicy: not supported"],
    [pod("", "nodeSelector: {a: b}"), "spec.nodeSelector: not supported"],
    [pod("", "hostUsers: false"), "spec.hostUsers = false: not supported"],
    [pod("", "subdomain: x"), "spec.subdomain: not supported"],
    [
      volume("persistentVolumeClaim: {claimName: x}", "readOnly: true"),
      "spec.volumes[0].persistentVolumeClaim.claimName: not supported",
    ],
    [
      volume("emptyDir: {}", "subPath: x"),
      "spec.containers[0].volumeMounts[0].subPath of a writable volume: not supported",
    ],
    [volume("emptyDir: {sizeLimit: 1Gi}", "readOnly: true"), "spec.volumes[0].emptyDir.sizeLimit: not supported"],
    [job("completions: 3"), "spec.completions = 3: not supported"],
    [job("suspend: true"), "spec.suspend: not supported"],
    ["{apiVersion: v1, kind: Service, metadata: {name: s}}", "m0.yaml: v1 Service: not supported by keelson play"],
    [
      "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Node}]}",
      "m0.yaml: items[0]: v1 Node: not supported",
    ],
    [
      "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: []}]}",
      "m0.yaml: items[0]: v1 List in a List: not supported",
    ],
    ["{apiVersion: v1, kind: List, items: &items [{apiVersion: v1, kind: List, items: *items}]}", "v1 List in a List:"],
    ["{apiVersion: v1, kind: {toString: x}}", "m0.yaml: v1 an invalid kind: not supported"],
    ["{apiVersion: &x [*x], kind: Pod}", "m0.yaml: an invalid apiVersion Pod: not supported"],
    ["{kind: Pod}", "m0.yaml: no apiVersion Pod: not supported"],
    [pod("imagePullPolizy: Always"), "m0.yaml: Pod p: spec.containers[0].imagePullPolizy: there is no such field"],
    [pod("__proto__: {x: 1}"), "spec.containers[0].__proto__: there is no such field"],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {phase: x}, spec: {containers: []}}",
      "Pod p: status.phase: not supported",
    ],
  ])("%s", async (text, sentence) => {
    await expect(load(text)).rejects.toThrow(sentence);
    await expect(load(text)).rejects.toMatchObject({ code: "InvalidArgument" });
  });
});

describe("invalid manifests", () => {
  test.each([
    ["a: [1", "The manifest m0.yaml is not valid YAML"],
    ["a: 1\na: 2", "is not valid YAML: duplicated mapping key"],
    ["hello", "m0.yaml: the document: it is not an object"],
    ["", "contains no Pod, Deployment or Job"],
    ["kind: Pod", "m0.yaml: no apiVersion Pod: not supported"],
    [pod("", "restartPolicy: Never", "../../etc"), 'metadata.name: it is "../../etc"'],
    [pod("", "restartPolicy: Never", "A"), 'metadata.name: it is "A"'],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ../x}, spec: {containers: [{name: a, image: x}]}}",
      'metadata.namespace: it is "../x"',
    ],
    ["{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}", "spec.containers: it is empty"],
    ["{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {}}", "spec.containers: it is empty"],
    ["{apiVersion: v1, kind: Pod, metadata: {name: p}}", "spec: it is missing"],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: ../a, image: x}]}}",
      "spec.containers[0].name: it is ../a",
    ],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a}]}}",
      "spec.containers[0].image: it is missing",
    ],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x}, {name: a, image: x}]}}",
      "spec.containers[1].name: another container is named a",
    ],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {initContainers: [{name: a, image: x, livenessProbe: {exec: {command: [x]}}}], containers: [{name: b, image: x}]}}",
      "spec.initContainers[0].livenessProbe: an init container cannot have probes",
    ],
    [pod("command: ls"), 'spec.containers[0].command: it is "ls". Set it to a list'],
    [pod("env: [{name: A, value: 1}]"), "spec.containers[0].env[0].value: it is 1. Set it to a string"],
    [pod("env: [{name: A, value: yes}]"), "spec.containers[0].env[0].value: it is true"],
    [pod("env: [{name: A=B, value: x}]"), "spec.containers[0].env[0].name"],
    [
      pod("env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
      "env[0]: it has value and valueFrom",
    ],
    [
      pod("envFrom: [{configMapRef: {name: c}}]"),
      "spec.containers[0].envFrom[0].configMapRef.name: the files contain no ConfigMap default/c",
    ],
    [
      pod("env: [{name: A, valueFrom: {secretKeyRef: {name: c, key: k}}}]"),
      "valueFrom.secretKeyRef.name: the files contain no Secret default/c",
    ],
    [pod("ports: [{containerPort: 70000}]"), "spec.containers[0].ports[0].containerPort: it is 70000"],
    [
      pod("ports: [{containerPort: 1, hostPort: 8}, {containerPort: 2, hostPort: 8}]"),
      "spec.containers[0].ports[1].hostPort: 8 is used",
    ],
    [pod("resources: {limits: {cpu: lots}}"), 'resources.limits.cpu: it is "lots"'],
    [
      pod("resources: {limits: {memory: 1Mi}, requests: {memory: 1Gi}}"),
      "resources.requests.memory: it is above the limit",
    ],
    [pod("volumeMounts: [{name: v, mountPath: /v}]"), "spec.containers[0].volumeMounts[0].name: there is no volume v"],
    [pod("livenessProbe: {periodSeconds: 1}"), "spec.containers[0].livenessProbe: it has 0 handlers"],
    [pod("livenessProbe: {exec: {command: [x]}, periodSeconds: -1}"), "livenessProbe.periodSeconds: it is -1"],
    [
      pod("livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: X}]}}"),
      "livenessProbe.httpGet.httpHeaders[0].value: it is missing",
    ],
    [pod("livenessProbe: {tcpSocket: {port: http}}"), "livenessProbe.tcpSocket.port: the container names no port http"],
    [pod("imagePullPolicy: Sometimes"), 'spec.containers[0].imagePullPolicy: it is "Sometimes"'],
    [pod("", "restartPolicy: Sometimes"), 'spec.restartPolicy: it is "Sometimes"'],
    [pod("", "terminationGracePeriodSeconds: -1"), "spec.terminationGracePeriodSeconds: it is -1"],
    [pod("", "activeDeadlineSeconds: 0"), "spec.activeDeadlineSeconds: it is 0"],
    [pod("", 'hostAliases: [{ip: 10.0.0.1, hostnames: ["a\\nb"]}]'), "spec.hostAliases[0].hostnames[0]"],
    [pod("", "dnsPolicy: None"), "spec.dnsConfig.nameservers: it is missing"],
    [
      volume("configMap: {name: c, optional: true, items: [{key: a, path: ../../x}]}", "readOnly: true"),
      'spec.volumes[0].configMap.items[0].path: it is "../../x"',
    ],
    [
      volume("configMap: {name: c, optional: true, items: [{key: a}]}", "readOnly: true"),
      "spec.volumes[0].configMap.items[0].path: it is missing. Set it to a string",
    ],
    [volume("configMap: {name: c, optional: true}", "subPath: ../x"), "volumeMounts[0].subPath: it is ../x"],
    [volume("hostPath: {path: /a/../b}", "readOnly: true"), "spec.volumes[0].hostPath.path: it is /a/../b"],
    [
      volume("hostPath: {path: /a}", "mountPropagation: Bidirectional"),
      "mountPropagation: the container is not privileged",
    ],
    [volume("hostPath: {path: /a}, emptyDir: {}", "readOnly: true"), "spec.volumes[0]: it has 2 sources"],
    [secret('data: {a: "not base64!"}'), "Secret s: data.a: it is not base64"],
    [secret("stringData: {a/b: x}"), 'Secret s: data: it has the key "a/b"'],
    [secret("stringData: {..: x}"), 'it has the key ".."'],
    [job("backoffLimit: -1"), "spec.backoffLimit: it is -1"],
    [
      "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 100000, template: {spec: {containers: [{name: a, image: x}]}}}}",
      "more than 110 pods",
    ],
    [
      "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: x}]}}}}",
      'spec.template.spec.restartPolicy: it is "Never"',
    ],
    [
      `${pod("")}\n---\n${pod("")}`,
      "m0.yaml, document 2: Pod p: there is another Pod default/p in m0.yaml, document 1: Pod p",
    ],
  ])("%s", async (text, sentence) => {
    await expect(load(text)).rejects.toThrow(sentence);
  });

  test("a Secret's value is not included in the error", async () => {
    await expect(load(secret('data: {a: "hunter2!"}'))).rejects.not.toThrow("hunter2");
  });

  test("a file that is missing, is a directory, or is too large", async () => {
    await expect(loadManifests(["/no/such/file"])).rejects.toThrow("The manifest /no/such/file cannot be read");
    await expect(loadManifests([directory])).rejects.toThrow("cannot be read");
    await expect(load(`# ${"x".repeat(5 << 20)}`)).rejects.toThrow("longer than 4194304 bytes");
  });

  test("a file that is not UTF-8", async () => {
    const file = join(directory, "latin-1.yaml");
    await writeFile(file, Buffer.from(pod("args: [caf\u00e9]"), "latin1"));
    await expect(loadManifests([file])).rejects.toThrow(
      `The manifest ${file} cannot be read: The encoded data was not valid for encoding utf-8.`,
    );
  });

  test("a million containers, and aliases that expand to a billion values, are rejected within a second or two", async () => {
    const many = (count: number) =>
      `{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [${"{},".repeat(count)}]}}`;
    await expect(load(many(1_000_000))).rejects.toThrow("The manifests contain more than 200000 values");
    const named = Array.from({ length: 2000 }, (_, index) => `{name: c${index}, image: x}`).join(", ");
    await expect(
      load(`{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [${named}]}}`),
    ).rejects.toThrow("more than 1000 containers");
    const laughs = Array.from(
      { length: 9 },
      (_, index) => `l${index + 1}: &l${index + 1} [${`*l${index},`.repeat(9)}]`,
    );
    await expect(load(`apiVersion: v1\nkind: List\nl0: &l0 [x]\n${laughs.join("\n")}`)).rejects.toThrow(
      "l0: there is no such field",
    );
    const aliased = `x0: &x0 [{name: a, image: x, args: [${"a,".repeat(1000)}]}]\n`;
    await expect(load(`${aliased}apiVersion: v1\nkind: List`)).rejects.toThrow("x0: there is no such field");
  });

  test("two files with a pod of the same name", async () => {
    await expect(load(pod(""), pod(""))).rejects.toThrow("m1.yaml: Pod p: there is another Pod default/p in m0.yaml");
  });
});

test("reads Pods, Deployments, Jobs, Lists, ConfigMaps and Secrets from several files", async () => {
  const manifest = await load(
    `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: c, namespace: other, creationTimestamp: null}
  data: {text: "a\\n"}
  binaryData: {bytes: /w==}
- ${pod("volumeMounts: [{name: v, mountPath: v}]", "volumes: [{name: v, hostPath: {path: /a}}]")}
---
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {a: aGVsbG8=}
stringData: {b: plain}
`,
    job("backoffLimit: 2, activeDeadlineSeconds: 9"),
    "{apiVersion: apps/v1, kind: Deployment, status: {}, metadata: {name: d}, spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {volumes: [{name: s, secret: {secretName: s, defaultMode: 0400}}], containers: [{name: a, image: x}]}}}}",
  );
  expect(
    manifest.workloads.map(({ kind, name, replicas, backoffLimit, activeDeadlineSeconds }) => ({
      kind,
      name,
      replicas,
      backoffLimit,
      activeDeadlineSeconds,
    })),
  ).toEqual([
    { kind: "Pod", name: "p", replicas: 1, backoffLimit: 6, activeDeadlineSeconds: undefined },
    { kind: "Job", name: "j", replicas: 1, backoffLimit: 2, activeDeadlineSeconds: 9 },
    { kind: "Deployment", name: "d", replicas: 2, backoffLimit: 6, activeDeadlineSeconds: undefined },
  ]);
  const { variables, files } = manifest.configMaps.get("other/c") ?? {};
  // Binary data is available to files only.
  expect(Object.fromEntries(variables ?? [])).toEqual({ text: Buffer.from("a\n") });
  expect(Object.fromEntries(files ?? [])).toEqual({ text: Buffer.from("a\n"), bytes: Buffer.from([255]) });
  expect(Object.fromEntries(manifest.secrets.get("default/s")?.variables ?? [])).toEqual({
    a: Buffer.from("hello"),
    b: Buffer.from("plain"),
  });
  // Octal, as Kubernetes reads it.
  expect(manifest.workloads[2]?.template.spec.volumes?.[0]?.secret?.defaultMode).toBe(0o400);
  expect(manifest.workloads[2]?.template.labels).toEqual({ a: "b" });
});

test("accepts the output of kubectl create deployment --dry-run=client -o yaml, and empty unsupported fields", async () => {
  const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  creationTimestamp: null
  labels: {app: web}
  name: web
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  strategy: {}
  template:
    metadata: {creationTimestamp: null, labels: {app: web}}
    spec:
      containers:
      - {image: nginx, name: nginx, resources: {}, lifecycle: {}, securityContext: {seLinuxOptions: {}}}
      nodeSelector: {}
      tolerations: []
status: {}
`;
  const { workloads } = await load(deployment);
  expect(workloads.map(({ name, template }) => [name, template.spec])).toEqual([
    ["web", { containers: [{ image: "nginx", name: "nginx", resources: {}, securityContext: {} }] }],
  ]);
  await expect(load(volume("persistentVolumeClaim: {}", ""))).rejects.toThrow("spec.volumes[0]: it has 0 sources");
});

test("strings and numbers that charts leave empty mean the defaults", async () => {
  const { workloads } = await load(`
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ""}
spec:
  priorityClassName: ""
  dnsPolicy: ""
  containers:
  - name: web
    image: nginx
    imagePullPolicy: ""
    env: [{name: EMPTY, value: ""}]
    ports: [{containerPort: 80, hostPort: 0, hostIP: "", name: ""}]
    livenessProbe:
      httpGet: {port: 80, host: "", httpHeaders: [{name: X-Empty, value: ""}]}
      timeoutSeconds: 0
      initialDelaySeconds: 0
`);
  const httpGet = { port: 80, httpHeaders: [{ name: "X-Empty", value: "" }] };
  expect(workloads).toMatchObject([{ namespace: "default" }]);
  expect(workloads[0]?.template.spec).toEqual({
    containers: [
      {
        name: "web",
        image: "nginx",
        env: [{ name: "EMPTY" }],
        ports: [{ containerPort: 80 }],
        livenessProbe: { httpGet, initialDelaySeconds: 0 },
      },
    ],
  });
});

test("numbers are read as in Kubernetes: a time of day and a pair of ports are text, 0o644 is octal", async () => {
  const { workloads } = await load(
    `${pod(
      "args: [22:22, -1:30:00], env: [{name: AT, value: 10:30}]",
      "volumes: [{name: c, configMap: {name: c, optional: true, defaultMode: 0o640}}, {name: d, configMap: {name: c, optional: true, defaultMode: 0600}}]",
    )}`,
  );
  expect(workloads[0]?.template.spec).toMatchObject({
    containers: [{ args: ["22:22", "-1:30:00"], env: [{ value: "10:30" }] }],
    volumes: [{ configMap: { defaultMode: 0o640 } }, { configMap: { defaultMode: 0o600 } }],
  });
  await expect(load(pod("args: [0o9]"))).resolves.toMatchObject({
    workloads: [{ template: { spec: { containers: [{ args: ["0o9"] }] } } }],
  });
});

test("every supported field exists in the client library, and its type is in the table", () => {
  for (const [name, { types, supported }] of supportedModels) {
    for (const field of supported) {
      const type = types.get(field);
      expect(type, `${name}.${field}`).toBeDefined();
      const [model] = /V1\w+/.exec(type ?? "") ?? [];
      if (model !== undefined) expect(supportedModels.has(model), `${name}.${field}: ${model}`).toBe(true);
    }
  }
});
