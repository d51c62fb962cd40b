// The words of the pod model: what the API edge hands in, what it gets back.
//
// Values here are checked (the edge parsed them once), immutable, and independent of protobuf.
// Source of the meanings: CRI v1 (cri/api/api.proto).

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

/** Labels or annotations: byte-identical to the request, in its order. */
export type StringMap = ReadonlyMap<string, string>;

/** Of PID namespaces; those of other kinds are the pod's or the node's. */
export type NamespaceMode = "pod" | "container" | "node" | "target";

/** Ids of the host that are others inside; user_namespaces(7). */
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
  /** Container whose PID namespace to join, with pid "target". */
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

/** LinuxContainerResources, in microseconds and bytes; 0 and "" mean unset, as in CRI, and -1 no limit. */
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

/** What a pod may use in all, and what it costs besides its containers. */
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

/** CRI ImageSpec; echoed as it came. */
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
  /** Of r, w, m. */
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
  /** Values are bytes: they may not be UTF-8. */
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
  /** Linux signal name as CRI's enum has it ("SIGTERM", "SIGRTMINPLUS3"), or none. */
  readonly stopSignal?: string;
}

/** A sandbox's life. Only `ready` has processes; `removed` ones are not in the model any more. */
export type SandboxState = "ready" | "not-ready";

export interface SandboxView {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly state: SandboxState;
  /** Nanoseconds since the epoch. */
  readonly createdAt: bigint;
  readonly runtimeHandler: string;
  /** First is the primary one; empty with the host's network or before and after the network's life. */
  readonly ips: readonly string[];
  readonly netnsPath: string;
  readonly monitorPid: number;
  /** What could not be taken back yet, one sentence each; retried until empty. */
  readonly leftovers: readonly string[];
  /** How long each stage of the start took, in milliseconds, in order. */
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
      /** CRI's reason: Completed, Error, OOMKilled, StartError. */
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
  /** The limits in force, after updates. */
  readonly resources?: Resources;
  /** The signal a stop sends first: CRI's, the image's, SIGTERM. */
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
  /** CRI has a state "unknown"; no container is in it. */
  readonly state?: ContainerPhase["state"] | "unknown";
  readonly labels: StringMap;
}

/** `confirmed` is of a sandbox, and says nothing but that all of the pod is as it is told. */
export type EventType = "created" | "started" | "stopped" | "deleted" | "confirmed";

/** One step in the life of a container or (with the sandbox's id) of a sandbox. */
export interface PodEvent {
  readonly containerId: string;
  readonly type: EventType;
  /** Nanoseconds since the epoch. */
  readonly createdAt: bigint;
  /** As it was at the event; absent when the sandbox is gone. */
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
  /** "" is the default one under its empty name. */
  readonly name: string;
  readonly recursiveReadOnlyMounts: boolean;
  readonly userNamespaces: boolean;
}

/**
 * The pods of this node. Ids given by clients may be unique prefixes. Every method rejects with a
 * KeelsonError of pod/errors.ts; reads are answered from memory.
 */
export interface Pods {
  /**
   * Watches the pods found, finishes what a daemon before this one began to take down, and takes down what it left
   * behind. To be called once clients are served: plugins may hang. Never rejects.
   */
  tidy(): Promise<void>;
  runSandbox(config: SandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<SandboxId>;
  /** Unknown is fine. */
  stopSandbox(id: string, signal: AbortSignal): Promise<void>;
  /** Stops first; unknown is fine. */
  removeSandbox(id: string, signal: AbortSignal): Promise<void>;
  sandbox(id: string): SandboxView;
  sandboxes(filter: SandboxFilter): readonly SandboxView[];
  /** Containers of one sandbox. */
  containersOf(id: SandboxId): readonly ContainerView[];

  createContainer(sandboxId: string, config: ContainerConfig, signal: AbortSignal): Promise<ContainerId>;
  startContainer(id: string, signal: AbortSignal): Promise<void>;
  /** `timeoutSeconds` 0 kills at once; unknown is fine. Goes on when the caller gives up. */
  stopContainer(id: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void>;
  removeContainer(id: string, signal: AbortSignal): Promise<void>;
  container(id: string): ContainerView;
  containers(filter: ContainerFilter): readonly ContainerView[];

  /** Sets what `change` names (0 and "" leave as it is), all or nothing; of a created or running container. */
  updateContainerResources(id: string, change: Resources, signal: AbortSignal): Promise<void>;
  /** Notes what the kubelet has set on the pod's cgroup; shown by `sandboxInfo`. */
  updateSandboxResources(id: string, change: SandboxResources, signal: AbortSignal): Promise<void>;

  /**
   * `timeoutSeconds` 0 is no limit; past it DeadlineExceeded. All outputs together have a budget: ResourceExhausted
   * when there is no room for this one. `answered` resolves when the caller has no more use for the result.
   */
  execSync(
    id: string,
    command: readonly string[],
    timeoutSeconds: bigint,
    call: { readonly signal: AbortSignal; readonly answered: Promise<void> },
  ): Promise<ExecSyncResult>;
  reopenLog(id: string): Promise<void>;
  /**
   * Writes a running container down as a tar archive at `location` (absolute, nothing is there yet); it runs on.
   * `timeoutSeconds` 0 is five minutes. Rejects with Unimplemented where CRIU is missing or does not work, with
   * DeadlineExceeded, and with Aborted when the container is stopped meanwhile or another checkpoint is underway.
   */
  checkpointContainer(id: string, location: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void>;

  /** The container an Exec or Attach is for: found, running, and with a terminal or without. */
  streamable(id: string): ContainerView;
  /** Starts a command; the session is the caller's to end. */
  exec(id: ContainerId, request: ExecRequest, signal: AbortSignal): Promise<Session>;
  /** Joins a running container's streams; ending the session detaches and nothing else. */
  attach(id: ContainerId, stdin: boolean, signal: AbortSignal): Promise<Session>;
  /** The sandbox a PortForward is for: found and ready. */
  forwardable(id: string): SandboxView;
  /** A connection to localhost:port in the sandbox's network, 1 to 65535. */
  portForward(id: SandboxId, port: number, signal: AbortSignal): Promise<Duplex>;

  containerStats(id: string): Promise<ContainerStats>;
  listContainerStats(filter: ContainerFilter): Promise<readonly ContainerStats[]>;
  sandboxStats(id: string): Promise<SandboxStats>;
  listSandboxStats(filter: SandboxFilter): Promise<readonly SandboxStats[]>;
  sandboxMetrics(): Promise<readonly SandboxMetrics[]>;

  /**
   * From now on, without a gap. `end` is called for a reader that falls more than 10,000 events behind: it gets no more
   * and has to abort `signal`.
   */
  events(signal: AbortSignal, end: (reason: KeelsonError) => void): AsyncIterable<PodEvent>;

  runtimeHandlers(): readonly RuntimeHandlerInfo[];
  /** What `verbose` of the status calls adds: a picture of the inside; bigints and Maps are the caller's to spell. */
  sandboxInfo(id: string): Promise<object>;
  containerInfo(id: string): Promise<object>;
  /** Ends watches and timers; pods run on. */
  close(): Promise<void>;
}
