// Types of the pod model: what the API layer passes in and gets back.
//
// Values are already validated (the API layer parses them once), immutable, and independent of protobuf.
// Semantics: CRI v1 (cri/api/api.proto).

import type { Duplex } from "node:stream";
import type { DnsConfig, PortMapping } from "../cni/types.ts";
import type { KeelsonError, Session } from "../native/index.ts";
import type { ShownImage } from "./shown-image.ts";
import type { ContainerStats, SandboxMetrics, SandboxStats } from "./stats/types.ts";

export type { Session } from "../native/index.ts";

declare const brand: unique symbol;
/** 64 lower-case hex digits. */
export type SandboxId = string & { readonly [brand]: "SandboxId" };
/** 64 lower-case hex digits. */
export type ContainerId = string & { readonly [brand]: "ContainerId" };

/** Labels or annotations: byte-identical to the request, in the same order. */
export type StringMap = ReadonlyMap<string, string>;

/** For PID namespaces; namespaces of other kinds are either the pod's or the node's. */
export type NamespaceMode = "pod" | "container" | "node" | "target";

/** A range of host ids and the ids they map to inside; user_namespaces(7). */
export interface IdMapping {
  readonly hostId: number;
  readonly containerId: number;
  readonly length: number;
}

export interface IdMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

export interface UserNamespace extends IdMappings {
  readonly mode: "pod" | "node";
}

export interface NamespaceOptions {
  readonly network: "pod" | "node";
  readonly pid: NamespaceMode;
  readonly ipc: "pod" | "node";
  /** The container whose PID namespace to join, for pid "target". */
  readonly targetId: string;
  readonly user?: UserNamespace;
}

export type SecurityProfile =
  | { readonly type: "runtime-default" }
  | { readonly type: "unconfined" }
  | { readonly type: "localhost"; readonly path: string };

export interface SelinuxOptions {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  readonly level: string;
}

export interface HugepageLimit {
  readonly pageSize: string;
  readonly limit: bigint;
}

/** LinuxContainerResources, in microseconds and bytes. As in CRI, 0 and "" mean unset, -1 means no limit. */
export interface Resources {
  readonly cpuPeriod: bigint;
  readonly cpuQuota: bigint;
  readonly cpuShares: bigint;
  readonly memoryLimit: bigint;
  readonly memorySwapLimit: bigint;
  readonly oomScoreAdj: bigint;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
  readonly hugepageLimits: readonly HugepageLimit[];
  readonly unified: StringMap;
}

/** The resources of the whole pod, and its overhead besides its containers. */
export interface SandboxResources {
  readonly overhead?: Resources;
  readonly resources?: Resources;
}

export interface SandboxMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

export type SupplementalGroupsPolicy = "merge" | "strict";

export interface SandboxSecurity {
  readonly namespaces: NamespaceOptions;
  readonly selinux?: SelinuxOptions;
  readonly runAsUser?: bigint;
  readonly runAsGroup?: bigint;
  readonly readonlyRootfs: boolean;
  readonly supplementalGroups: readonly bigint[];
  readonly supplementalGroupsPolicy: SupplementalGroupsPolicy;
  readonly privileged: boolean;
  readonly seccomp?: SecurityProfile;
  readonly apparmor?: SecurityProfile;
}

export interface SandboxConfig {
  readonly metadata: SandboxMetadata;
  readonly hostname: string;
  /** Absolute, or empty for no logs. */
  readonly logDirectory: string;
  readonly dns?: DnsConfig;
  readonly portMappings: readonly PortMapping[];
  readonly labels: StringMap;
  readonly annotations: StringMap;
  /** cgroupfs form, absolute, or empty. */
  readonly cgroupParent: string;
  readonly security: SandboxSecurity;
  readonly sysctls: StringMap;
  readonly overhead?: Resources;
  readonly resources?: Resources;
}

export type Propagation = "private" | "host-to-container" | "bidirectional";

/** CRI ImageSpec; echoed back unchanged. */
export interface ImageSpec {
  readonly image: string;
  readonly annotations: StringMap;
  readonly userSpecifiedImage: string;
  readonly runtimeHandler: string;
  readonly imageRef: string;
}

export interface Mount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly: boolean;
  readonly selinuxRelabel: boolean;
  readonly propagation: Propagation;
  readonly uidMappings: readonly IdMapping[];
  readonly gidMappings: readonly IdMapping[];
  readonly recursiveReadOnly: boolean;
  readonly image?: ImageSpec;
  readonly imageSubPath: string;
  /** CRI 0.37: noexec, nodev, nosuid … */
  readonly mountOptions: readonly string[];
}

export interface Device {
  readonly containerPath: string;
  readonly hostPath: string;
  /** Any of r, w, m. */
  readonly permissions: string;
}

export interface ContainerMetadata {
  readonly name: string;
  readonly attempt: number;
}

export interface ContainerSecurity {
  readonly addCapabilities: readonly string[];
  readonly dropCapabilities: readonly string[];
  readonly addAmbientCapabilities: readonly string[];
  readonly privileged: boolean;
  readonly namespaces: NamespaceOptions;
  readonly selinux?: SelinuxOptions;
  readonly runAsUser?: bigint;
  readonly runAsGroup?: bigint;
  readonly runAsUsername: string;
  readonly readonlyRootfs: boolean;
  readonly supplementalGroups: readonly bigint[];
  readonly supplementalGroupsPolicy: SupplementalGroupsPolicy;
  readonly noNewPrivs: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly seccomp?: SecurityProfile;
  readonly apparmor?: SecurityProfile;
}

export interface ContainerConfig {
  readonly metadata: ContainerMetadata;
  readonly image: ImageSpec;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly workingDir: string;
  /** Values are bytes because they need not be UTF-8. */
  readonly envs: readonly { readonly name: string; readonly value: Buffer }[];
  readonly mounts: readonly Mount[];
  readonly devices: readonly Device[];
  readonly cdiDevices: readonly string[];
  readonly labels: StringMap;
  readonly annotations: StringMap;
  /** Relative to the sandbox's log directory. */
  readonly logPath: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  readonly resources?: Resources;
  readonly security: ContainerSecurity;
  /** Linux signal name from CRI's enum ("SIGTERM", "SIGRTMINPLUS3"), if set. */
  readonly stopSignal?: string;
}

/** As in CRI. Only `ready` sandboxes have processes. */
export type SandboxState = "ready" | "not-ready";

export interface SandboxView {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly state: SandboxState;
  /** Nanoseconds since the epoch. */
  readonly createdAt: bigint;
  readonly runtimeHandler: string;
  /** The primary address first. Empty with host networking, and while the network is not attached. */
  readonly ips: readonly string[];
  readonly netnsPath: string;
  readonly monitorPid: number;
  /** Cleanup steps that have failed so far, one sentence each; retried until empty. */
  readonly leftovers: readonly string[];
  /** Duration of each stage of the start, in order. */
  readonly timeline: readonly { readonly stage: string; readonly milliseconds: number }[];
}

export type ContainerPhase =
  | { readonly state: "created" }
  | { readonly state: "running"; readonly startedAt: bigint; readonly pid: number }
  | {
      readonly state: "exited";
      /** 0 when it never started. */
      readonly startedAt: bigint;
      readonly finishedAt: bigint;
      readonly exitCode: number;
      /** CRI's reason: Completed, Error, OOMKilled, StartError, Unknown (nobody saw the exit). */
      readonly reason: string;
      readonly message: string;
    };

export type ExitedPhase = Extract<ContainerPhase, { state: "exited" }>;

export interface ContainerUser {
  readonly uid: bigint;
  readonly gid: bigint;
  readonly supplementalGroups: readonly bigint[];
}

export interface ContainerView {
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  readonly config: ContainerConfig;
  readonly phase: ContainerPhase;
  readonly createdAt: bigint;
  /** `sha256:…`, equal to Image.id. */
  readonly imageId: string;
  readonly shownImage: ShownImage;
  /** Absolute, or empty. */
  readonly logPath: string;
  readonly user: ContainerUser;
  /** The limits in force, including updates. */
  readonly resources?: Resources;
  /** The signal that a stop sends first: from the request, else from the image, else SIGTERM. */
  readonly stopSignal: string;
}

export interface SandboxFilter {
  /** An id or a unique prefix of one. */
  readonly id?: string;
  readonly state?: SandboxState;
  readonly labels: StringMap;
}

export interface ContainerFilter {
  readonly id?: string;
  readonly sandboxId?: string;
  /** CRI has a state "unknown", which no container is ever in. */
  readonly state?: ContainerPhase["state"] | "unknown";
  readonly labels: StringMap;
}

/** `confirmed` is a sandbox event without a change: it only repeats the pod's current state. */
export type EventType = "created" | "started" | "stopped" | "deleted" | "confirmed";

/** A lifecycle event of a container or (with the sandbox's id) of a sandbox. */
export interface PodEvent {
  readonly containerId: string;
  readonly type: EventType;
  /** Nanoseconds since the epoch. */
  readonly createdAt: bigint;
  /** State at the time of the event; absent when the sandbox no longer exists. */
  readonly sandbox?: SandboxView;
  readonly containers: readonly ContainerView[];
}

export interface ExecSyncResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
}

export interface ExecRequest {
  readonly command: readonly string[];
  readonly tty: boolean;
  readonly stdin: boolean;
}

export interface RuntimeHandlerInfo {
  /** "" is the default handler under its empty name. */
  readonly name: string;
  readonly recursiveReadOnlyMounts: boolean;
  readonly userNamespaces: boolean;
}

/**
 * The pods of this node. Ids from clients may be unique prefixes. Every method rejects with a
 * KeelsonError from pod/errors.ts; reads are answered from memory.
 */
export interface Pods {
  /**
   * Watches the recovered pods, finishes the teardowns that a previous daemon began, and cleans up what it left
   * behind. Call it only once clients are served, because plugins may hang. Never rejects.
   */
  tidy(): Promise<void>;
  runSandbox(config: SandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<SandboxId>;
  /** Idempotent: succeeds for an unknown id. */
  stopSandbox(id: string, signal: AbortSignal): Promise<void>;
  /** Stops the sandbox first. Idempotent: succeeds for an unknown id. */
  removeSandbox(id: string, signal: AbortSignal): Promise<void>;
  /** What no call may touch, because a record cannot be read. `pod`: namespace/name, or empty. */
  leftAlone(): readonly { readonly id: string; readonly pod: string; readonly reason: string }[];
  sandbox(id: string): SandboxView;
  sandboxes(filter: SandboxFilter): readonly SandboxView[];
  /** Containers of one sandbox. */
  containersOf(id: SandboxId): readonly ContainerView[];

  createContainer(sandboxId: string, config: ContainerConfig, signal: AbortSignal): Promise<ContainerId>;
  startContainer(id: string, signal: AbortSignal): Promise<void>;
  /** `timeoutSeconds` 0 kills at once. Succeeds for an unknown id. Continues when the caller gives up. */
  stopContainer(id: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void>;
  removeContainer(id: string, signal: AbortSignal): Promise<void>;
  container(id: string): ContainerView;
  containers(filter: ContainerFilter): readonly ContainerView[];

  /** Applies the set fields of `change` (0 and "" are unset), all or nothing, to a created or running container. */
  updateContainerResources(id: string, change: Resources, signal: AbortSignal): Promise<void>;
  /** Records what the kubelet has set on the pod's cgroup; shown by `sandboxInfo`. */
  updateSandboxResources(id: string, change: SandboxResources, signal: AbortSignal): Promise<void>;

  /**
   * Rejects with DeadlineExceeded after `timeoutSeconds` (0: no limit), and with ResourceExhausted when the shared
   * budget for all outputs has no room for this one. `answered` resolves when the caller no longer needs the result.
   */
  execSync(
    id: string,
    command: readonly string[],
    timeoutSeconds: bigint,
    call: { readonly signal: AbortSignal; readonly answered: Promise<void> },
  ): Promise<ExecSyncResult>;
  reopenLog(id: string): Promise<void>;
  /**
   * Checkpoints a running container to a tar archive at `location` (absolute, must not exist); the container keeps
   * running. `timeoutSeconds` 0 means five minutes. Rejects with Unimplemented where CRIU is missing or does not work,
   * with DeadlineExceeded, and with Aborted when the container is stopped meanwhile or already being checkpointed.
   */
  checkpointContainer(id: string, location: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void>;

  /** The target container of an Exec or Attach. Throws unless it is running. */
  streamable(id: string): ContainerView;
  /** Starts a command; the caller must end the session. */
  exec(id: ContainerId, request: ExecRequest, signal: AbortSignal): Promise<Session>;
  /** Joins a running container's streams; ending the session only detaches. */
  attach(id: ContainerId, stdin: boolean, signal: AbortSignal): Promise<Session>;
  /** The target sandbox of a PortForward. Throws unless it is ready. */
  forwardable(id: string): SandboxView;
  /** A connection to localhost:port in the sandbox's network, 1 to 65535. */
  portForward(id: SandboxId, port: number, signal: AbortSignal): Promise<Duplex>;

  containerStats(id: string): Promise<ContainerStats>;
  listContainerStats(filter: ContainerFilter): Promise<readonly ContainerStats[]>;
  sandboxStats(id: string): Promise<SandboxStats>;
  listSandboxStats(filter: SandboxFilter): Promise<readonly SandboxStats[]>;
  sandboxMetrics(): Promise<readonly SandboxMetrics[]>;

  /**
   * All events from now on, without a gap. `end` is called for a reader that falls more than 10,000 events behind: it
   * gets no further events and must abort `signal`.
   */
  events(signal: AbortSignal, end: (reason: KeelsonError) => void): AsyncIterable<PodEvent>;

  runtimeHandlers(): readonly RuntimeHandlerInfo[];
  /** Internal state for `verbose` status calls. The caller must serialize bigints and Maps. */
  sandboxInfo(id: string): Promise<object>;
  containerInfo(id: string): Promise<object>;
  /** Stops watches and timers; pods keep running. */
  close(): Promise<void>;
}
