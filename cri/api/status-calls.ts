// Version, Status and RuntimeConfig: this runtime's identity, and whether it can run pods.

import type { Network } from "../../cni/types.ts";
import type { CgroupDriver } from "../../pod/index.ts";
import type { Pods } from "../../pod/types.ts";
import { encodeInfo } from "./encode-fields.ts";
import { runtime } from "./generated/messages.js";
import type { Handlers, runtimeMethods } from "./methods.ts";

/** The value of VersionResponse.version, unchanged since the first release of CRI. */
const kubeletApiVersion = "0.1.0";

export interface StatusParts {
  readonly pods: Pick<Pods, "runtimeHandlers">;
  readonly network: Pick<Network, "readiness" | "info">;
  /** Keelson's version (semver). */
  readonly version: string;
  readonly cgroupDriver: CgroupDriver;
  /** The effective configuration, for verbose Status. */
  readonly config: object;
}

export function statusCalls(parts: StatusParts) {
  return {
    async Version() {
      return {
        version: kubeletApiVersion,
        runtimeName: "keelson",
        runtimeVersion: parts.version,
        runtimeApiVersion: "v1",
      };
    },

    async Status(request) {
      return {
        status: { conditions: [{ type: "RuntimeReady", status: true }, networkCondition(parts.network)] },
        runtimeHandlers: parts.pods.runtimeHandlers().map(({ name, recursiveReadOnlyMounts, userNamespaces }) => ({
          name,
          features: { recursiveReadOnlyMounts, userNamespaces },
        })),
        features: { supplementalGroupsPolicy: true, userNamespacesHostNetwork: true, mountOptions: true },
        info: request.verbose ? encodeInfo({ config: parts.config, network: parts.network.info() }) : {},
      };
    },

    async RuntimeConfig() {
      const { CGROUPFS, SYSTEMD } = runtime.v1.CgroupDriver;
      return { linux: { cgroupDriver: parts.cgroupDriver === "systemd" ? SYSTEMD : CGROUPFS } };
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

function networkCondition(network: Pick<Network, "readiness">): runtime.v1.RuntimeCondition.$Properties {
  const readiness = network.readiness();
  if (readiness.ready) return { type: "NetworkReady", status: true };
  return { type: "NetworkReady", status: false, reason: readiness.reason, message: readiness.message };
}
