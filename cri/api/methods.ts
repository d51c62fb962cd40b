// The table of every RPC of every service with its messages, from api.proto.

import type { UntypedHandleCall } from "@grpc/grpc-js";
import { type CallContext, type Codecs, type RunStream, type RunUnary, streamCall, unaryCall } from "./call.ts";
import type { Decoder, Encoder } from "./encoded.ts";
import { keelson, runtime } from "./generated/messages.js";

/** An RPC; `Run` is the type of its implementation. */
export interface Method<Run> {
  readonly kind: "unary" | "stream";
  /** Wraps the implementation for grpc-js, which passes bytes. */
  connect(name: string, run: Run, context: CallContext): UntypedHandleCall;
}

/** Implementations of some of a table's methods. */
export type Handlers<Methods> = {
  readonly [Name in keyof Methods]?: Methods[Name] extends Method<infer Run> ? Run : never;
};

/** A call that changes state: logged at info. */
function unary<Request, Response>(request: Decoder<Request>, response: Encoder<Response>) {
  return unaryMethod({ request, response, level: "info" });
}

/** A read-only call, logged at debug: a kubelet makes several per second. */
function read<Request, Response>(request: Decoder<Request>, response: Encoder<Response>) {
  return unaryMethod({ request, response, level: "debug" });
}

function unaryMethod<Request, Response>(codecs: Codecs<Request, Response>): Method<RunUnary<Request, Response>> {
  return { kind: "unary", connect: (name, run, context) => unaryCall(name, codecs, run, context) };
}

/** A call with a streamed response: a read, or at level info a change. */
function stream<Request, Response>(
  request: Decoder<Request>,
  response: Encoder<Response>,
  level: "info" | "debug" = "debug",
): Method<RunStream<Request, Response>> {
  const codecs: Codecs<Request, Response> = { request, response, level };
  return { kind: "stream", connect: (name, run, context) => streamCall(name, codecs, run, context) };
}

const v1 = runtime.v1;

export const runtimeMethods = {
  Version: read(v1.VersionRequest, v1.VersionResponse),
  RunPodSandbox: unary(v1.RunPodSandboxRequest, v1.RunPodSandboxResponse),
  StopPodSandbox: unary(v1.StopPodSandboxRequest, v1.StopPodSandboxResponse),
  RemovePodSandbox: unary(v1.RemovePodSandboxRequest, v1.RemovePodSandboxResponse),
  PodSandboxStatus: read(v1.PodSandboxStatusRequest, v1.PodSandboxStatusResponse),
  ListPodSandbox: read(v1.ListPodSandboxRequest, v1.ListPodSandboxResponse),
  StreamPodSandboxes: stream(v1.StreamPodSandboxesRequest, v1.StreamPodSandboxesResponse),
  CreateContainer: unary(v1.CreateContainerRequest, v1.CreateContainerResponse),
  StartContainer: unary(v1.StartContainerRequest, v1.StartContainerResponse),
  StopContainer: unary(v1.StopContainerRequest, v1.StopContainerResponse),
  RemoveContainer: unary(v1.RemoveContainerRequest, v1.RemoveContainerResponse),
  ListContainers: read(v1.ListContainersRequest, v1.ListContainersResponse),
  StreamContainers: stream(v1.StreamContainersRequest, v1.StreamContainersResponse),
  ContainerStatus: read(v1.ContainerStatusRequest, v1.ContainerStatusResponse),
  UpdateContainerResources: unary(v1.UpdateContainerResourcesRequest, v1.UpdateContainerResourcesResponse),
  ReopenContainerLog: unary(v1.ReopenContainerLogRequest, v1.ReopenContainerLogResponse),
  ExecSync: unary(v1.ExecSyncRequest, v1.ExecSyncResponse),
  Exec: unary(v1.ExecRequest, v1.ExecResponse),
  Attach: unary(v1.AttachRequest, v1.AttachResponse),
  PortForward: unary(v1.PortForwardRequest, v1.PortForwardResponse),
  ContainerStats: read(v1.ContainerStatsRequest, v1.ContainerStatsResponse),
  ListContainerStats: read(v1.ListContainerStatsRequest, v1.ListContainerStatsResponse),
  StreamContainerStats: stream(v1.StreamContainerStatsRequest, v1.StreamContainerStatsResponse),
  PodSandboxStats: read(v1.PodSandboxStatsRequest, v1.PodSandboxStatsResponse),
  ListPodSandboxStats: read(v1.ListPodSandboxStatsRequest, v1.ListPodSandboxStatsResponse),
  StreamPodSandboxStats: stream(v1.StreamPodSandboxStatsRequest, v1.StreamPodSandboxStatsResponse),
  UpdateRuntimeConfig: unary(v1.UpdateRuntimeConfigRequest, v1.UpdateRuntimeConfigResponse),
  Status: read(v1.StatusRequest, v1.StatusResponse),
  CheckpointContainer: unary(v1.CheckpointContainerRequest, v1.CheckpointContainerResponse),
  GetContainerEvents: stream(v1.GetEventsRequest, v1.ContainerEventResponse),
  ListMetricDescriptors: read(v1.ListMetricDescriptorsRequest, v1.ListMetricDescriptorsResponse),
  ListPodSandboxMetrics: read(v1.ListPodSandboxMetricsRequest, v1.ListPodSandboxMetricsResponse),
  StreamPodSandboxMetrics: stream(v1.StreamPodSandboxMetricsRequest, v1.StreamPodSandboxMetricsResponse),
  RuntimeConfig: read(v1.RuntimeConfigRequest, v1.RuntimeConfigResponse),
  UpdatePodSandboxResources: unary(v1.UpdatePodSandboxResourcesRequest, v1.UpdatePodSandboxResourcesResponse),
  CheckpointPod: unary(v1.CheckpointPodRequest, v1.CheckpointPodResponse),
  RestorePod: unary(v1.RestorePodRequest, v1.RestorePodResponse),
};

export const imageMethods = {
  ListImages: read(v1.ListImagesRequest, v1.ListImagesResponse),
  StreamImages: stream(v1.StreamImagesRequest, v1.StreamImagesResponse),
  ImageStatus: read(v1.ImageStatusRequest, v1.ImageStatusResponse),
  PullImage: unary(v1.PullImageRequest, v1.PullImageResponse),
  RemoveImage: unary(v1.RemoveImageRequest, v1.RemoveImageResponse),
  ImageFsInfo: read(v1.ImageFsInfoRequest, v1.ImageFsInfoResponse),
};

export const keelsonImageMethods = {
  Load: stream(keelson.v1.LoadRequest, keelson.v1.Transfer, "info"),
  Pull: stream(keelson.v1.PullRequest, keelson.v1.Transfer, "info"),
  Tag: unary(keelson.v1.TagRequest, keelson.v1.TagResponse),
  Save: stream(keelson.v1.SaveRequest, keelson.v1.SaveResponse),
};

export const keelsonNodeMethods = {
  NodeStatus: read(keelson.v1.NodeStatusRequest, keelson.v1.NodeStatusResponse),
};
