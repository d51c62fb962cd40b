// runtime.v1.RuntimeService: each RPC is decode, one call of the pod model, encode.

import type { ContainerStats, SandboxStats } from "../../pod/stats/types.ts";
import type { ContainerConfig, PodEvent, Pods, SandboxView } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import { decodeContainerConfig } from "./decode-container.ts";
import { absolutePath, commandLine, containerId, present, sandboxId, stringMap, timeout } from "./decode-fields.ts";
import { decodeContainerFilter, decodeSandboxFilter } from "./decode-filter.ts";
import { decodePodResources, decodeResources } from "./decode-resources.ts";
import { decodeSandboxConfig } from "./decode-sandbox.ts";
import { type ContainerEncoder, containerEncoder } from "./encode-container.ts";
import { encodeInfo, toLong } from "./encode-fields.ts";
import { type SandboxEncoder, sandboxEncoder } from "./encode-sandbox.ts";
import { encodeContainerStats, encodeSandboxStats } from "./encode-stats.ts";
import { Encoded, inMessages, listCache } from "./encoded.ts";
import { runtime } from "./generated/messages.js";
import type { Handlers, runtimeMethods } from "./methods.ts";
import { metricCalls } from "./metric-calls.ts";
import { type NetworkConfigParts, networkConfigCall } from "./network-config.ts";
import { type StatusParts, statusCalls } from "./status-calls.ts";
import { type StreamingParts, streamingCalls } from "./streaming-calls.ts";

const eventTypes: Readonly<Record<PodEvent["type"], runtime.v1.ContainerEventType>> = {
  created: runtime.v1.ContainerEventType.CONTAINER_CREATED_EVENT,
  started: runtime.v1.ContainerEventType.CONTAINER_STARTED_EVENT,
  stopped: runtime.v1.ContainerEventType.CONTAINER_STOPPED_EVENT,
  deleted: runtime.v1.ContainerEventType.CONTAINER_DELETED_EVENT,
  // From an event of this type the kubelet only takes the statuses; any other type would make it sync the pod again.
  confirmed: runtime.v1.ContainerEventType.CONTAINER_CREATED_EVENT,
};

export interface RuntimeParts extends StatusParts, NetworkConfigParts, StreamingParts {
  readonly pods: Pods;
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint;
}

export function runtimeService(parts: RuntimeParts): Handlers<typeof runtimeMethods> {
  const encoders = { sandboxes: sandboxEncoder(), containers: containerEncoder() };
  return {
    ...statusCalls(parts),
    ...networkConfigCall(parts),
    ...sandboxCalls(parts, encoders),
    ...containerCalls(parts.pods, encoders),
    ...statsAndEvents(parts.pods, encoders),
    ...metricCalls(parts.pods),
    ...streamingCalls(parts),
  };
}

interface Encoders {
  readonly sandboxes: SandboxEncoder;
  readonly containers: ContainerEncoder;
}

function sandboxCalls({ pods, now }: RuntimeParts, { sandboxes, containers }: Encoders) {
  const list = listCache();
  return {
    async RunPodSandbox(request, call) {
      const config = decodeSandboxConfig(request.config);
      return { podSandboxId: await pods.runSandbox(config, request.runtimeHandler, call.signal) };
    },

    async StopPodSandbox(request, call) {
      await pods.stopSandbox(sandboxId(request.podSandboxId), call.signal);
      return {};
    },

    async RemovePodSandbox(request, call) {
      await pods.removeSandbox(sandboxId(request.podSandboxId), call.signal);
      return {};
    },

    async PodSandboxStatus(request) {
      const view = pods.sandbox(sandboxId(request.podSandboxId));
      const rest = runtime.v1.PodSandboxStatusResponse.encode({
        info: request.verbose ? encodeInfo({ info: await pods.sandboxInfo(view.id) }) : {},
        timestamp: toLong(now()),
      }).finish();
      const statuses = pods.containersOf(view.id).map(containers.sandboxStatus);
      return new Encoded(Buffer.concat([sandboxes.status(view), ...statuses, rest]));
    },

    async ListPodSandbox(request) {
      return list(pods.sandboxes(decodeSandboxFilter(request.filter)).map(sandboxes.listed));
    },

    async *StreamPodSandboxes(request) {
      yield* inMessages(pods.sandboxes(decodeSandboxFilter(request.filter)).map(sandboxes.listed));
    },

    async UpdatePodSandboxResources(request, call) {
      const update = {
        ...present(decodeResources(request.overhead, "overhead"), (overhead) => ({ overhead })),
        ...present(decodePodResources(request.resources, "resources"), (resources) => ({ resources })),
      };
      await pods.updateSandboxResources(sandboxId(request.podSandboxId), update, call.signal);
      return {};
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

/**
 * The kubelet may add privileged ephemeral containers to a running pod (kubectl debug --profile=sysadmin). It then sets
 * privileged in sandbox_config, regardless of its value in RunPodSandbox. CRI-O and containerd check that value too.
 */
function refuseOrdinaryPod(
  { id, config: { security } }: SandboxView,
  asked: runtime.v1.PodSandboxConfig.$Properties | null | undefined,
  { metadata }: ContainerConfig,
): void {
  if (security.privileged || asked?.linux?.securityContext?.privileged) return;
  throw criErrors.privilegedInOrdinaryPod({ container: metadata.name, id });
}

function containerCalls(pods: Pods, { containers }: Encoders) {
  const list = listCache();
  return {
    async CreateContainer(request, call) {
      const sandbox = sandboxId(request.podSandboxId);
      const config = decodeContainerConfig(request.config);
      if (config.security.privileged) refuseOrdinaryPod(pods.sandbox(sandbox), request.sandboxConfig, config);
      return { containerId: await pods.createContainer(sandbox, config, call.signal) };
    },

    async StartContainer(request, call) {
      await pods.startContainer(containerId(request.containerId), call.signal);
      return {};
    },

    async StopContainer(request, call) {
      await pods.stopContainer(containerId(request.containerId), timeout(request.timeout), call.signal);
      return {};
    },

    async CheckpointContainer(request, call) {
      const location = absolutePath(request.location, "location");
      const id = containerId(request.containerId);
      await pods.checkpointContainer(id, location, timeout(request.timeout), call.signal);
      return {};
    },

    async RemoveContainer(request, call) {
      await pods.removeContainer(containerId(request.containerId), call.signal);
      return {};
    },

    async ListContainers(request) {
      return list(pods.containers(decodeContainerFilter(request.filter)).map(containers.listed));
    },

    async *StreamContainers(request) {
      yield* inMessages(pods.containers(decodeContainerFilter(request.filter)).map(containers.listed));
    },

    async UpdateContainerResources(request, call) {
      const id = containerId(request.containerId);
      const resources = decodeResources(request.linux, "linux");
      if (resources === undefined) throw criErrors.fieldMissing({ field: "linux", wanted: "the resources to set" });
      await pods.updateContainerResources(id, resources, call.signal);
      return {};
    },

    async ContainerStatus(request) {
      const view = pods.container(containerId(request.containerId));
      const status = containers.status(view);
      if (!request.verbose) return new Encoded(status);
      const info = encodeInfo({ info: await pods.containerInfo(view.id) });
      return new Encoded(Buffer.concat([status, runtime.v1.ContainerStatusResponse.encode({ info }).finish()]));
    },

    async ReopenContainerLog(request) {
      await pods.reopenLog(containerId(request.containerId));
      return {};
    },

    async ExecSync(request, call) {
      const id = containerId(request.containerId);
      const command = commandLine(request.cmd);
      return await pods.execSync(id, command, timeout(request.timeout), call);
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

function statsAndEvents(pods: Pods, { sandboxes, containers }: Encoders) {
  const containerStats = (stats: ContainerStats) => encodeContainerStats(stats, containers, 1);
  const sandboxStats = (stats: SandboxStats) => encodeSandboxStats(stats, sandboxes, containers);
  const listContainerStats = async ({ filter }: runtime.v1.ListContainerStatsRequest.$Properties) =>
    (await pods.listContainerStats(decodeContainerFilter(filter))).map(containerStats);
  const listSandboxStats = async ({ filter }: runtime.v1.ListPodSandboxStatsRequest.$Properties) => {
    const id = filter?.id;
    const stats = await pods.listSandboxStats({ ...(id ? { id } : {}), labels: stringMap(filter?.labelSelector) });
    return stats.map(sandboxStats);
  };
  return {
    async ContainerStats(request) {
      return new Encoded(containerStats(await pods.containerStats(containerId(request.containerId))));
    },

    async ListContainerStats(request) {
      return new Encoded(Buffer.concat(await listContainerStats(request)));
    },

    async *StreamContainerStats(request) {
      yield* inMessages(await listContainerStats(request));
    },

    async PodSandboxStats(request) {
      return new Encoded(sandboxStats(await pods.sandboxStats(sandboxId(request.podSandboxId))));
    },

    async ListPodSandboxStats(request) {
      return new Encoded(Buffer.concat(await listSandboxStats(request)));
    },

    async *StreamPodSandboxStats(request) {
      yield* inMessages(await listSandboxStats(request));
    },

    async *GetContainerEvents(_request, call) {
      for await (const event of pods.events(call.signal, call.abort)) {
        const head = runtime.v1.ContainerEventResponse.encode({
          containerId: event.containerId,
          containerEventType: eventTypes[event.type],
          createdAt: toLong(event.createdAt),
        }).finish();
        const sandbox = event.sandbox ? [sandboxes.eventStatus(event.sandbox)] : [];
        yield new Encoded(Buffer.concat([head, ...sandbox, ...event.containers.map(containers.eventStatus)]));
      }
    },
  } satisfies Handlers<typeof runtimeMethods>;
}
