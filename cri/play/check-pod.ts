// Validates the fields of a pod, their values and the constraints between them, before anything runs. Errors name the
// path. Containers are validated in check-container.ts.

import { ContainerCheck } from "./check-container.ts";
import { FieldCheck, type PodPlace } from "./check-values.ts";
import { dnsLabel } from "./names.ts";
import type { PodSpec } from "./supported.ts";

type Volume = NonNullable<PodSpec["volumes"]>[number];

export function checkPodSpec(spec: PodSpec, place: PodPlace): void {
  const check = new PodCheck(spec, place);
  check.pod();
  for (const [index, volume] of (spec.volumes ?? []).entries()) check.volume(volume, `volumes[${index}]`);
  const containers = new ContainerCheck(spec, place);
  for (const [index, each] of (spec.initContainers ?? []).entries()) {
    containers.container(each, `initContainers[${index}]`);
    containers.initContainer(each, `initContainers[${index}]`);
  }
  for (const [index, each] of spec.containers.entries()) {
    containers.container(each, `containers[${index}]`);
    if (each.restartPolicy !== undefined) throw check.unsupported(`containers[${index}].restartPolicy`);
  }
}

class PodCheck extends FieldCheck {
  readonly #spec: PodSpec;
  readonly #volumes = new Set<string>();

  constructor(spec: PodSpec, place: PodPlace) {
    super(place);
    this.#spec = spec;
  }

  pod(): void {
    const { kind } = this.place;
    const spec = this.#spec;
    if (!Array.isArray(spec.containers) || spec.containers.length === 0)
      throw this.wrong("containers", "it is empty", "at least one container");
    const policies = { Pod: ["Always", "OnFailure", "Never"], Deployment: ["Always"], Job: ["OnFailure", "Never"] }[
      kind
    ];
    if (spec.restartPolicy !== undefined || kind === "Job") this.oneOf("restartPolicy", spec.restartPolicy, policies);
    this.oneOf("dnsPolicy", spec.dnsPolicy ?? "ClusterFirst", [
      "ClusterFirst",
      "ClusterFirstWithHostNet",
      "Default",
      "None",
    ]);
    if (spec.dnsPolicy === "None" && !spec.dnsConfig?.nameservers?.length)
      throw this.missing("dnsConfig.nameservers", "a name server");
    for (const [index, server] of (spec.dnsConfig?.nameservers ?? []).entries())
      this.ip(`dnsConfig.nameservers[${index}]`, server);
    for (const [index, { ip }] of (spec.hostAliases ?? []).entries()) this.ip(`hostAliases[${index}].ip`, ip);
    for (const [index, { hostnames = [] }] of (spec.hostAliases ?? []).entries())
      for (const [n, name] of hostnames.entries()) this.word(`hostAliases[${index}].hostnames[${n}]`, name);
    for (const field of ["terminationGracePeriodSeconds", "activeDeadlineSeconds"] as const)
      this.atLeast(field, spec[field], field === "activeDeadlineSeconds" ? 1 : 0);
    if (spec.hostname !== undefined && !dnsLabel(spec.hostname))
      throw this.wrong("hostname", `it is ${spec.hostname}`, "lower-case letters, digits and hyphens");
    if (spec.hostUsers === false) throw this.unsupported("hostUsers = false");
    if (spec.automountServiceAccountToken === true) throw this.unsupported("automountServiceAccountToken = true");
    if (spec.shareProcessNamespace && spec.hostPID)
      throw this.wrong("shareProcessNamespace", "hostPID is set too", "one of the two");
    this.security("securityContext", spec.securityContext ?? {});
    if (spec.securityContext?.supplementalGroupsPolicy !== undefined)
      this.oneOf("securityContext.supplementalGroupsPolicy", spec.securityContext.supplementalGroupsPolicy, [
        "Merge",
        "Strict",
      ]);
  }

  volume(volume: Volume, path: string): void {
    const { name, ...sources } = volume;
    if (typeof name !== "string" || !dnsLabel(name))
      throw this.wrong(`${path}.name`, `it is ${name ?? "missing"}`, "lower-case letters, digits and hyphens");
    if (this.#volumes.has(name)) throw this.wrong(`${path}.name`, `another volume is named ${name}`, "a unique name");
    this.#volumes.add(name);
    if (Object.keys(sources).length !== 1)
      throw this.wrong(path, `it has ${Object.keys(sources).length} sources`, "one source");
    const { configMap, secret, emptyDir, hostPath, image } = volume;
    if (configMap) this.#keyFiles(`${path}.configMap`, "configMaps", configMap.name, configMap);
    if (secret) this.#keyFiles(`${path}.secret`, "secrets", secret.secretName, secret, "secretName");
    if (emptyDir) {
      this.oneOf(`${path}.emptyDir.medium`, emptyDir.medium ?? "", ["", "Memory"]);
      if (emptyDir.sizeLimit !== undefined && emptyDir.medium !== "Memory")
        throw this.unsupported(`${path}.emptyDir.sizeLimit`);
      this.quantity(`${path}.emptyDir.sizeLimit`, emptyDir.sizeLimit);
    }
    if (hostPath) {
      if (!isAbsolute(hostPath.path))
        throw this.wrong(`${path}.hostPath.path`, `it is ${hostPath.path}`, "an absolute path without ..");
      this.oneOf(`${path}.hostPath.type`, hostPath.type ?? "", [
        "",
        "DirectoryOrCreate",
        "Directory",
        "FileOrCreate",
        "File",
        "Socket",
        "CharDevice",
        "BlockDevice",
      ]);
    }
    if (image) {
      if (!image.reference) throw this.missing(`${path}.image.reference`, "an image's name");
      this.pullPolicy(`${path}.image.pullPolicy`, image.pullPolicy);
    }
  }

  #keyFiles(
    path: string,
    kind: "configMaps" | "secrets",
    name: string | undefined,
    { items = [], defaultMode, optional }: NonNullable<Volume["configMap"]>,
    nameField = "name",
  ): void {
    const data = this.data(`${path}.${nameField}`, kind, name, optional);
    this.mode(`${path}.defaultMode`, defaultMode);
    for (const [index, item] of items.entries()) {
      const at = `${path}.items[${index}]`;
      if (!data?.files.has(item.key) && !optional)
        throw this.wrong(`${at}.key`, `${name} has no key ${item.key}`, "one of its keys");
      if (
        item.path === "" ||
        item.path.startsWith("/") ||
        item.path.split("/").some((part) => part === "" || part === "." || part.startsWith(".."))
      )
        throw this.wrong(`${at}.path`, `it is ${JSON.stringify(item.path)}`, "a relative path without ..");
      this.mode(`${at}.mode`, item.mode);
    }
  }
}

function isAbsolute(path: string | undefined): boolean {
  return path !== undefined && /^\/[^\0]*$/.test(path) && !path.split("/").includes("..");
}
