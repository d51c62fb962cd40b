// Default configs for tests; each test changes only what it is about.

import type { ContainerConfig, ContainerSecurity, Mount, Resources, SandboxConfig } from "../types.ts";

export const podNamespaces = { network: "pod", pid: "container", ipc: "pod", targetId: "" } as const;

export const plainSecurity: ContainerSecurity = {
  addCapabilities: [],
  dropCapabilities: [],
  addAmbientCapabilities: [],
  privileged: false,
  namespaces: podNamespaces,
  runAsUsername: "",
  readonlyRootfs: false,
  supplementalGroups: [],
  supplementalGroupsPolicy: "merge",
  noNewPrivs: false,
  maskedPaths: [],
  readonlyPaths: [],
};

export const noResources: Resources = {
  cpuPeriod: 0n,
  cpuQuota: 0n,
  cpuShares: 0n,
  memoryLimit: 0n,
  memorySwapLimit: 0n,
  oomScoreAdj: 0n,
  cpusetCpus: "",
  cpusetMems: "",
  hugepageLimits: [],
  unified: new Map(),
};

export function containerConfig(name: string, image: string, command: readonly string[]): ContainerConfig {
  return {
    metadata: { name, attempt: 0 },
    image: { image, annotations: new Map(), userSpecifiedImage: "", runtimeHandler: "", imageRef: "" },
    command,
    args: [],
    workingDir: "",
    envs: [],
    mounts: [],
    devices: [],
    cdiDevices: [],
    labels: new Map(),
    annotations: new Map(),
    logPath: "",
    stdin: false,
    stdinOnce: false,
    tty: false,
    security: plainSecurity,
  };
}

export function mountOf(hostPath: string): Mount {
  return {
    ...{ containerPath: "/volume", hostPath, readonly: false, selinuxRelabel: false, propagation: "private" },
    ...{ uidMappings: [], gidMappings: [], recursiveReadOnly: false, imageSubPath: "", mountOptions: [] },
  };
}

export function sandboxConfig(name: string): SandboxConfig {
  return {
    metadata: { name, uid: `uid-${name}`, namespace: "default", attempt: 0 },
    hostname: name,
    logDirectory: "",
    portMappings: [],
    labels: new Map(),
    annotations: new Map(),
    cgroupParent: "",
    security: {
      namespaces: podNamespaces,
      readonlyRootfs: false,
      supplementalGroups: [],
      supplementalGroupsPolicy: "merge",
      privileged: false,
    },
    sysctls: new Map(),
  };
}
