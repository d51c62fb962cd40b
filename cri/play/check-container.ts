// Validates the fields of a container: their values, and the constraints between them.

import { FieldCheck, type PodPlace } from "./check-values.ts";
import { isFieldPath } from "./field-path.ts";
import { dnsLabel, portName } from "./names.ts";
import { quantity } from "./resources.ts";
import type { Container, PodSpec } from "./supported.ts";

type Volume = NonNullable<PodSpec["volumes"]>[number];
type Probe = NonNullable<Container["livenessProbe"]>;

const probes = ["startupProbe", "livenessProbe", "readinessProbe"] as const;

export class ContainerCheck extends FieldCheck {
  readonly #spec: PodSpec;
  readonly #containers = new Set<string>();
  readonly #volumes: ReadonlyMap<string, Volume>;
  readonly #hostPorts = new Set<string>();

  constructor(spec: PodSpec, place: PodPlace) {
    super(place);
    this.#spec = spec;
    this.#volumes = new Map((spec.volumes ?? []).map((volume) => [volume.name, volume]));
  }

  container(container: Container, path: string): void {
    const { name, image } = container;
    if (typeof name !== "string" || !dnsLabel(name))
      throw this.wrong(`${path}.name`, `it is ${name ?? "missing"}`, "lower-case letters, digits and hyphens");
    if (this.#containers.has(name))
      throw this.wrong(`${path}.name`, `another container is named ${name}`, "a unique name");
    this.#containers.add(name);
    if (!image) throw this.missing(`${path}.image`, "an image's name");
    this.pullPolicy(`${path}.imagePullPolicy`, container.imagePullPolicy);
    this.#environment(container, path);
    this.#ports(container, path);
    this.#mounts(container, path);
    this.#resources(container, path);
    this.security(`${path}.securityContext`, container.securityContext ?? {});
    if (container.securityContext?.allowPrivilegeEscalation === false && container.securityContext.privileged)
      throw this.wrong(`${path}.securityContext.allowPrivilegeEscalation`, "privileged is set too", "one of the two");
    for (const probe of probes) {
      const spec = container[probe];
      if (spec) this.#probe(container, spec, `${path}.${probe}`, probe);
    }
  }

  initContainer(container: Container, path: string): void {
    if (container.restartPolicy !== undefined) this.oneOf(`${path}.restartPolicy`, container.restartPolicy, ["Always"]);
    else
      for (const probe of probes)
        if (container[probe] !== undefined)
          throw this.wrong(
            `${path}.${probe}`,
            "an init container cannot have probes",
            "nothing, or make it a sidecar (restartPolicy: Always)",
          );
  }

  #environment({ env = [], envFrom = [] }: Container, path: string): void {
    for (const [index, { name, value, valueFrom }] of env.entries()) {
      const at = `${path}.env[${index}]`;
      if (typeof name !== "string" || !/^[ -<>-~]+$/.test(name))
        throw this.wrong(`${at}.name`, `it is ${JSON.stringify(name)}`, "printable ASCII without =");
      if (value !== undefined && valueFrom !== undefined)
        throw this.wrong(at, "it has value and valueFrom", "one of the two");
      if (value?.includes("\0")) throw this.wrong(`${at}.value`, "it contains a NUL", "text without NUL");
      if (valueFrom === undefined) continue;
      const sources = Object.keys(valueFrom);
      if (sources.length !== 1) throw this.wrong(`${at}.valueFrom`, `it has ${sources.length} sources`, "one source");
      const { configMapKeyRef, secretKeyRef, fieldRef } = valueFrom;
      if (configMapKeyRef) this.#key(`${at}.valueFrom.configMapKeyRef`, "configMaps", configMapKeyRef);
      if (secretKeyRef) this.#key(`${at}.valueFrom.secretKeyRef`, "secrets", secretKeyRef);
      if (fieldRef && !isFieldPath(fieldRef.fieldPath))
        throw this.unsupported(`${at}.valueFrom.fieldRef.fieldPath = ${fieldRef.fieldPath}`);
    }
    for (const [index, { configMapRef, secretRef, prefix = "" }] of envFrom.entries()) {
      const at = `${path}.envFrom[${index}]`;
      if ((configMapRef === undefined) === (secretRef === undefined))
        throw this.wrong(at, "it needs one source", "configMapRef or secretRef");
      if (!/^[ -<>-~]*$/.test(prefix))
        throw this.wrong(`${at}.prefix`, `it is ${JSON.stringify(prefix)}`, "printable ASCII without =");
      if (configMapRef) this.data(`${at}.configMapRef.name`, "configMaps", configMapRef.name, configMapRef.optional);
      if (secretRef) this.data(`${at}.secretRef.name`, "secrets", secretRef.name, secretRef.optional);
    }
  }

  #key(
    path: string,
    kind: "configMaps" | "secrets",
    { name, key, optional }: { name?: string; key: string; optional?: boolean },
  ): void {
    const data = this.data(`${path}.name`, kind, name, optional);
    if (!data?.variables.has(key) && !optional)
      throw this.wrong(`${path}.key`, `${name} has no key ${key}`, "one of its keys");
  }

  #ports({ ports = [] }: Container, path: string): void {
    const names = new Set<string>();
    for (const [index, port] of ports.entries()) {
      const at = `${path}.ports[${index}]`;
      this.port(`${at}.containerPort`, port.containerPort);
      this.oneOf(`${at}.protocol`, port.protocol ?? "TCP", ["TCP", "UDP", "SCTP"]);
      if (port.name !== undefined && (!portName(port.name) || names.has(port.name)))
        throw this.wrong(`${at}.name`, `it is ${port.name}`, "a unique name of at most 15 letters, digits and hyphens");
      names.add(port.name ?? "");
      if (port.hostIP !== undefined) this.ip(`${at}.hostIP`, port.hostIP);
      if (port.hostPort === undefined) continue;
      this.port(`${at}.hostPort`, port.hostPort);
      if (this.#spec.hostNetwork && port.hostPort !== port.containerPort)
        throw this.wrong(`${at}.hostPort`, "the pod is on the host's network", "containerPort");
      const key = `${port.hostIP ?? ""} ${port.protocol ?? "TCP"} ${port.hostPort}`;
      if (this.#hostPorts.has(key))
        throw this.wrong(`${at}.hostPort`, `${port.hostPort} is used by another container`, "an unused port");
      this.#hostPorts.add(key);
    }
  }

  #mounts({ volumeMounts = [], securityContext }: Container, path: string): void {
    const targets = new Set<string>();
    for (const [index, mount] of volumeMounts.entries()) {
      const at = `${path}.volumeMounts[${index}]`;
      const volume = this.#volumes.get(mount.name);
      if (volume === undefined)
        throw this.wrong(`${at}.name`, `there is no volume ${mount.name}`, "the name of a volume of the pod");
      if (typeof mount.mountPath !== "string" || mount.mountPath === "" || mount.mountPath.includes(":"))
        throw this.wrong(`${at}.mountPath`, `it is ${JSON.stringify(mount.mountPath)}`, "a path without :");
      if (targets.has(mount.mountPath))
        throw this.wrong(`${at}.mountPath`, "another volume is mounted there", "a unique path");
      targets.add(mount.mountPath);
      // In writable volumes a container could replace the path with a symlink.
      if (mount.subPath) {
        if (!volume.configMap && !volume.secret && !volume.image)
          throw this.unsupported(`${at}.subPath of a writable volume`);
        if (mount.subPath.startsWith("/") || mount.subPath.split("/").includes(".."))
          throw this.wrong(`${at}.subPath`, `it is ${mount.subPath}`, "a relative path without ..");
      }
      const propagation = this.oneOf(`${at}.mountPropagation`, mount.mountPropagation ?? "None", [
        "None",
        "HostToContainer",
        "Bidirectional",
      ]);
      if (propagation === "Bidirectional" && !securityContext?.privileged)
        throw this.wrong(`${at}.mountPropagation`, "the container is not privileged", "HostToContainer");
      if (mount.recursiveReadOnly === undefined) continue;
      this.oneOf(`${at}.recursiveReadOnly`, mount.recursiveReadOnly, ["Disabled", "Enabled"]);
      if (mount.recursiveReadOnly === "Enabled" && (!mount.readOnly || propagation !== "None"))
        throw this.wrong(`${at}.recursiveReadOnly`, "it needs readOnly and no mountPropagation", "Disabled");
    }
  }

  #resources({ resources = {} }: Container, path: string): void {
    for (const kind of ["limits", "requests"] as const) {
      for (const [name, amount] of Object.entries(resources[kind] ?? {})) {
        const at = `${path}.resources.${kind}.${name}`;
        if (name !== "cpu" && name !== "memory") throw this.unsupported(at);
        this.quantity(at, amount);
        const limit = quantity(resources.limits?.[name] ?? Number.POSITIVE_INFINITY);
        if (kind === "requests" && limit !== undefined && Number(quantity(amount)) > limit)
          throw this.wrong(at, "it is above the limit", "at most the limit");
      }
    }
  }

  #probe(container: Container, probe: Probe, path: string, kind: (typeof probes)[number]): void {
    const ways = [probe.exec, probe.httpGet, probe.tcpSocket].filter((way) => way !== undefined);
    if (ways.length !== 1)
      throw this.wrong(path, `it has ${ways.length} handlers`, "one of exec, httpGet and tcpSocket");
    if (probe.exec && !probe.exec.command?.length) throw this.missing(`${path}.exec.command`, "a command");
    for (const [name, action] of [["httpGet", probe.httpGet] as const, ["tcpSocket", probe.tcpSocket] as const]) {
      if (action === undefined) continue;
      const { port } = action;
      if (typeof port === "number") this.port(`${path}.${name}.port`, port);
      else if (!container.ports?.some((each) => each.name === port))
        throw this.wrong(
          `${path}.${name}.port`,
          `the container names no port ${port}`,
          "a number, or the name of a port",
        );
    }
    this.oneOf(`${path}.httpGet.scheme`, probe.httpGet?.scheme ?? "HTTP", ["HTTP", "HTTPS"]);
    this.atLeast(`${path}.initialDelaySeconds`, probe.initialDelaySeconds, 0);
    for (const field of [
      "periodSeconds",
      "timeoutSeconds",
      "successThreshold",
      "failureThreshold",
      "terminationGracePeriodSeconds",
    ] as const)
      this.atLeast(`${path}.${field}`, probe[field], 1);
    if (kind !== "readinessProbe" && (probe.successThreshold ?? 1) !== 1)
      throw this.wrong(`${path}.successThreshold`, `it is ${probe.successThreshold}`, "1");
    if (kind === "readinessProbe" && probe.terminationGracePeriodSeconds !== undefined)
      throw this.wrong(
        `${path}.terminationGracePeriodSeconds`,
        "a readiness probe does not stop containers",
        "nothing",
      );
  }
}
