// Fields of responses: 64-bit integers, maps, attributes, verbose info, and the parts of a request that are returned
// again (image specs, namespaces, mounts, resources).

import Long from "long";
import type {
  ContainerView,
  IdMapping,
  ImageSpec,
  Mount,
  NamespaceMode,
  NamespaceOptions,
  Propagation,
  Resources,
  SandboxView,
  StringMap,
} from "../../pod/types.ts";
import { runtime } from "./generated/messages.js";

const { NamespaceMode: modes, MountPropagation: propagations } = runtime.v1;

const namespaceModes: Readonly<Record<NamespaceMode, runtime.v1.NamespaceMode>> = {
  pod: modes.POD,
  container: modes.CONTAINER,
  node: modes.NODE,
  target: modes.TARGET,
};

const mountPropagations: Readonly<Record<Propagation, runtime.v1.MountPropagation>> = {
  private: propagations.PROPAGATION_PRIVATE,
  "host-to-container": propagations.PROPAGATION_HOST_TO_CONTAINER,
  bidirectional: propagations.PROPAGATION_BIDIRECTIONAL,
};

/** The low 64 bits of `value`, in the form that protobufjs takes for int64 and uint64 fields. */
export function toLong(value: bigint): Long {
  // Most values are small, and numbers are ten times as fast as bigints.
  const number = Number(value);
  if (number >= 0 && number <= Number.MAX_SAFE_INTEGER) return new Long(number | 0, (number / 2 ** 32) | 0);
  return new Long(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}

/**
 * The `info` map of a verbose response: JSON values by name, for people and for templates like crictl's {{.info.pid}}.
 * bigints become strings and Maps objects, as JSON has neither.
 */
export function encodeInfo(values: object): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, JSON.stringify(value, jsonValue)]));
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  return value instanceof Map ? Object.fromEntries(value) : value;
}

/** Object.fromEntries defines own properties, even for __proto__. */
function encodeMap(map: StringMap): Record<string, string> {
  return Object.fromEntries(map);
}

/** The attributes of a container or sandbox: its id, and the names given by the client. */
export function encodeAttributes({ id, config }: ContainerView | SandboxView) {
  return {
    id,
    metadata: config.metadata,
    labels: encodeMap(config.labels),
    annotations: encodeMap(config.annotations),
  };
}

export function encodeImageSpec(spec: ImageSpec): runtime.v1.ImageSpec.$Properties {
  return { ...spec, annotations: encodeMap(spec.annotations) };
}

export function encodeNamespaces(options: NamespaceOptions): runtime.v1.NamespaceOption.$Properties {
  const { user } = options;
  return {
    network: namespaceModes[options.network],
    pid: namespaceModes[options.pid],
    ipc: namespaceModes[options.ipc],
    targetId: options.targetId,
    usernsOptions: user
      ? { mode: namespaceModes[user.mode], uids: encodeIdMappings(user.uids), gids: encodeIdMappings(user.gids) }
      : null,
  };
}

export function encodeMount(mount: Mount): runtime.v1.Mount.$Properties {
  return {
    ...mount,
    propagation: mountPropagations[mount.propagation],
    uidMappings: encodeIdMappings(mount.uidMappings),
    gidMappings: encodeIdMappings(mount.gidMappings),
    image: mount.image ? encodeImageSpec(mount.image) : null,
    mountOptions: [...mount.mountOptions],
  };
}

export function encodeResources(resources: Resources): runtime.v1.LinuxContainerResources.$Properties {
  return {
    cpuPeriod: toLong(resources.cpuPeriod),
    cpuQuota: toLong(resources.cpuQuota),
    cpuShares: toLong(resources.cpuShares),
    memoryLimitInBytes: toLong(resources.memoryLimit),
    memorySwapLimitInBytes: toLong(resources.memorySwapLimit),
    oomScoreAdj: toLong(resources.oomScoreAdj),
    cpusetCpus: resources.cpusetCpus,
    cpusetMems: resources.cpusetMems,
    hugepageLimits: resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: toLong(limit) })),
    unified: encodeMap(resources.unified),
  };
}

function encodeIdMappings(mappings: readonly IdMapping[]): runtime.v1.IDMapping.$Properties[] {
  return mappings.map((mapping) => ({ ...mapping }));
}
