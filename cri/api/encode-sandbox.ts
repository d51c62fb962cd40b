// Sandbox views → protobuf. A view is immutable, so each is encoded once.

import type { SandboxState, SandboxView } from "../../pod/types.ts";
import { encodeAttributes, encodeNamespaces, toLong } from "./encode-fields.ts";
import { fieldCache } from "./encoded.ts";
import { runtime } from "./generated/messages.js";

const states: Readonly<Record<SandboxState, runtime.v1.PodSandboxState>> = {
  ready: runtime.v1.PodSandboxState.SANDBOX_READY,
  "not-ready": runtime.v1.PodSandboxState.SANDBOX_NOTREADY,
};

export interface SandboxEncoder {
  /** ListPodSandboxResponse.items */
  listed(view: SandboxView): Buffer;
  /** PodSandboxStatusResponse.status */
  status(view: SandboxView): Buffer;
  /** PodSandboxStats.attributes */
  attributes(view: SandboxView): Buffer;
  /** ContainerEventResponse.pod_sandbox_status */
  eventStatus(view: SandboxView): Buffer;
}

export function sandboxEncoder(): SandboxEncoder {
  const { PodSandbox, PodSandboxStatus, PodSandboxAttributes } = runtime.v1;
  return {
    listed: fieldCache(1, PodSandbox, describeListed),
    status: fieldCache(1, PodSandboxStatus, describeStatus),
    attributes: fieldCache(1, PodSandboxAttributes, encodeAttributes),
    eventStatus: fieldCache(4, PodSandboxStatus, describeStatus),
  };
}

function describeListed(view: SandboxView): runtime.v1.PodSandbox.$Properties {
  return {
    ...encodeAttributes(view),
    state: states[view.state],
    createdAt: toLong(view.createdAt),
    runtimeHandler: view.runtimeHandler,
  };
}

function describeStatus(view: SandboxView): runtime.v1.PodSandboxStatus.$Properties {
  const [ip = "", ...others] = view.ips;
  return {
    ...describeListed(view),
    network: { ip, additionalIps: others.map((other) => ({ ip: other })) },
    linux: { namespaces: { options: encodeNamespaces(view.config.security.namespaces) } },
  };
}
