// Container views → protobuf. A view is immutable, so each is encoded once.

import type { ContainerPhase, ContainerView } from "../../pod/types.ts";
import { encodeAttributes, encodeImageSpec, encodeMount, encodeResources, toLong } from "./encode-fields.ts";
import { fieldCache } from "./encoded.ts";
import { runtime } from "./generated/messages.js";

const states: Readonly<Record<ContainerPhase["state"], runtime.v1.ContainerState>> = {
  created: runtime.v1.ContainerState.CONTAINER_CREATED,
  running: runtime.v1.ContainerState.CONTAINER_RUNNING,
  exited: runtime.v1.ContainerState.CONTAINER_EXITED,
};

export interface ContainerEncoder {
  /** ListContainersResponse.containers */
  listed(view: ContainerView): Buffer;
  /** ContainerStatusResponse.status */
  status(view: ContainerView): Buffer;
  /** ContainerStats.attributes */
  attributes(view: ContainerView): Buffer;
  /** PodSandboxStatusResponse.containers_statuses */
  sandboxStatus(view: ContainerView): Buffer;
  /** ContainerEventResponse.containers_statuses */
  eventStatus(view: ContainerView): Buffer;
}

export function containerEncoder(): ContainerEncoder {
  const { Container, ContainerStatus, ContainerAttributes } = runtime.v1;
  return {
    listed: fieldCache(1, Container, describeListed),
    status: fieldCache(1, ContainerStatus, describeStatus),
    attributes: fieldCache(1, ContainerAttributes, encodeAttributes),
    sandboxStatus: fieldCache(3, ContainerStatus, describeStatus),
    eventStatus: fieldCache(5, ContainerStatus, describeStatus),
  };
}

function describeListed(view: ContainerView): runtime.v1.Container.$Properties {
  return {
    ...encodeAttributes(view),
    podSandboxId: view.sandboxId,
    image: encodeImageSpec(view.config.image),
    imageRef: view.imageId,
    imageId: view.imageId,
    state: states[view.phase.state],
    createdAt: toLong(view.createdAt),
  };
}

function describeStatus(view: ContainerView): runtime.v1.ContainerStatus.$Properties {
  const { uid, gid, supplementalGroups } = view.user;
  return {
    ...encodeAttributes(view),
    ...describePhase(view.phase),
    createdAt: toLong(view.createdAt),
    image: { ...encodeImageSpec(view.config.image), image: view.shownImage.name },
    imageRef: view.shownImage.reference,
    imageId: view.imageId,
    mounts: view.config.mounts.map(encodeMount),
    logPath: view.logPath,
    resources: view.resources ? { linux: encodeResources(view.resources) } : null,
    user: { linux: { uid: toLong(uid), gid: toLong(gid), supplementalGroups: supplementalGroups.map(toLong) } },
    stopSignal: signalNumber(view.stopSignal),
  };
}

function describePhase(phase: ContainerPhase): runtime.v1.ContainerStatus.$Properties {
  const state = states[phase.state];
  switch (phase.state) {
    case "created":
      return { state };
    case "running":
      return { state, startedAt: toLong(phase.startedAt) };
    case "exited":
      return {
        state,
        startedAt: toLong(phase.startedAt),
        finishedAt: toLong(phase.finishedAt),
        exitCode: phase.exitCode,
        reason: phase.reason,
        message: phase.message,
      };
  }
}

/** SIGTERM or SIGRTMIN+3 (the format in images) → CRI's number; RUNTIME_DEFAULT for a name unknown to CRI. */
function signalNumber(name: string): runtime.v1.Signal {
  const full = name.startsWith("SIG") ? name : `SIG${name}`;
  const wanted = `SIGNAL_${full.replace("+", "PLUS").replace("-", "MINUS")}`;
  const found = Object.entries(runtime.v1.Signal).find(([known]) => known === wanted);
  return typeof found?.[1] === "number" ? found[1] : runtime.v1.Signal.SIGNAL_RUNTIME_DEFAULT;
}
