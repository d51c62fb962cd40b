// The CRI calls used by play, each with a deadline. Works with any CRI server; errors are the server's own messages.

import { status } from "@grpc/grpc-js";
import Long from "long";
import { messageOf } from "../../native/index.ts";
import { runtime } from "../api/generated/messages.js";
import { type Codec, connectCalls, isServiceError } from "../grpc-calls.ts";

const v1 = runtime.v1;

/** A kubelet's runtimeRequestTimeout. */
const callMs = 120_000;
/** The server has its own timeouts for downloads; after this it is considered stuck. */
const pullMs = 60 * 60_000;

export type Cri = ReturnType<typeof connectCri>;

export function connectCri(socket: string) {
  // Reconnects to a restarted daemon within a second.
  const { client, method: unary } = connectCalls(socket, { "grpc.max_reconnect_backoff_ms": 1000 });

  const method = <Request, Response>(
    name: `${"Runtime" | "Image"}Service/${string}`,
    request: Codec<Request, unknown>,
    response: Codec<never, Response>,
    defaultMs = callMs,
  ) => unary(`/runtime.v1.${name}`, request, response, defaultMs);

  return {
    version: method("RuntimeService/Version", v1.VersionRequest, v1.VersionResponse, 5_000),
    runPodSandbox: method(
      "RuntimeService/RunPodSandbox",
      v1.RunPodSandboxRequest,
      v1.RunPodSandboxResponse,
      2 * callMs,
    ),
    stopPodSandbox: method("RuntimeService/StopPodSandbox", v1.StopPodSandboxRequest, v1.StopPodSandboxResponse),
    removePodSandbox: method(
      "RuntimeService/RemovePodSandbox",
      v1.RemovePodSandboxRequest,
      v1.RemovePodSandboxResponse,
    ),
    podSandboxStatus: method(
      "RuntimeService/PodSandboxStatus",
      v1.PodSandboxStatusRequest,
      v1.PodSandboxStatusResponse,
    ),
    listPodSandbox: method("RuntimeService/ListPodSandbox", v1.ListPodSandboxRequest, v1.ListPodSandboxResponse),
    createContainer: method("RuntimeService/CreateContainer", v1.CreateContainerRequest, v1.CreateContainerResponse),
    startContainer: method("RuntimeService/StartContainer", v1.StartContainerRequest, v1.StartContainerResponse),
    stopContainer: method("RuntimeService/StopContainer", v1.StopContainerRequest, v1.StopContainerResponse),
    removeContainer: method("RuntimeService/RemoveContainer", v1.RemoveContainerRequest, v1.RemoveContainerResponse),
    containerStatus: method("RuntimeService/ContainerStatus", v1.ContainerStatusRequest, v1.ContainerStatusResponse),
    listContainers: method("RuntimeService/ListContainers", v1.ListContainersRequest, v1.ListContainersResponse),
    reopenContainerLog: method(
      "RuntimeService/ReopenContainerLog",
      v1.ReopenContainerLogRequest,
      v1.ReopenContainerLogResponse,
    ),
    execSync: method("RuntimeService/ExecSync", v1.ExecSyncRequest, v1.ExecSyncResponse),
    imageStatus: method("ImageService/ImageStatus", v1.ImageStatusRequest, v1.ImageStatusResponse),
    pullImage: method("ImageService/PullImage", v1.PullImageRequest, v1.PullImageResponse, pullMs),
    /** Calls back on each container event; resolves when the signal aborts or the stream ends. */
    async containerEvents(onEvent: () => void, signal: AbortSignal): Promise<void> {
      const call = client.makeServerStreamRequest(
        "/runtime.v1.RuntimeService/GetContainerEvents",
        (value: runtime.v1.GetEventsRequest.$Properties) => Buffer.from(v1.GetEventsRequest.encode(value).finish()),
        // The event's content is not used: it only triggers a relist. Not null, which would end the stream.
        () => ({}),
        {},
      );
      const cancel = () => call.cancel();
      signal.addEventListener("abort", cancel, { once: true });
      call.on("data", onEvent);
      await new Promise<void>((resolve) => call.on("end", resolve).on("error", () => resolve()));
      signal.removeEventListener("abort", cancel);
    },
    close: () => client.close(),
  };
}

/** Resolves when the container has stopped or does not exist. */
export async function stopContainer(
  cri: Pick<Cri, "stopContainer">,
  containerId: string,
  graceSeconds: number,
): Promise<void> {
  const limits = { ms: graceSeconds * 1000 + callMs };
  await cri.stopContainer({ containerId, timeout: Long.fromNumber(graceSeconds) }, limits).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
}

/** The server's message; for an error that did not come from a server, its own message. */
export function sentenceOf(error: unknown): string {
  return isServiceError(error) ? error.details : messageOf(error);
}

/** The daemon does not answer, but may come back. */
export function isUnreachable(error: unknown): boolean {
  return isServiceError(error) && error.code === status.UNAVAILABLE;
}

export function isDeadline(error: unknown): boolean {
  return isServiceError(error) && error.code === status.DEADLINE_EXCEEDED;
}

export function isNotFound(error: unknown): boolean {
  return isServiceError(error) && error.code === status.NOT_FOUND;
}
