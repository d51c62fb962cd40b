// One container: its identity and its phase. What changes it stands in container-create.ts, container-life.ts and update.ts.

import { join } from "node:path";
import type { ImageId } from "../image/types.ts";
import type { ContainerRun, ExitedRun } from "../native/index.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ShownImage } from "./shown-image.ts";
import type {
  ContainerConfig,
  ContainerId,
  ContainerPhase,
  ContainerUser,
  ContainerView,
  ExitedPhase,
  Resources,
} from "./types.ts";

export interface ContainerIdentity {
  readonly id: ContainerId;
  readonly config: ContainerConfig;
  readonly createdAt: bigint;
  readonly imageId: ImageId;
  /** Absent in records of daemons that showed the id. */
  readonly shownImage?: ShownImage;
  readonly user: ContainerUser;
  readonly stopSignal: string;
  /** Path of the compiled seccomp filter, if it has one. */
  readonly seccompFilter?: string;
}

export interface CheckpointUnderway {
  /** Ends it, resolves when the container runs free again; `urgently` harms its processes. */
  readonly breakOff: (urgently: boolean) => Promise<void>;
  /** Nothing of it is under way any more. Never rejects. */
  readonly ended: Promise<void>;
}

export class Container {
  readonly id: ContainerId;
  readonly config: ContainerConfig;
  readonly createdAt: bigint;
  readonly imageId: ImageId;
  readonly shownImage: ShownImage;
  readonly user: ContainerUser;
  readonly stopSignal: string;
  readonly seccompFilter: string | undefined;
  readonly sandbox: Sandbox;

  checkpoint: CheckpointUnderway | undefined;

  /** How many are under way: none of them waits for a checkpoint, and none begins. */
  stops = 0;

  /** Set by the first removal, and on record before anything is taken down. */
  removing = false;

  /** The kernel has refused an update's OOM score, and the log says so. */
  scoreRefused = false;

  /** While a start is under way: its end, and a way to break it off. */
  starting: { readonly ended: Promise<void>; readonly giveUp: () => void } | undefined;

  #phase: ContainerPhase = { state: "created" };
  #resources: Resources | undefined;
  #view: ContainerView | undefined;

  constructor(identity: ContainerIdentity, sandbox: Sandbox) {
    this.id = identity.id;
    this.config = identity.config;
    this.createdAt = identity.createdAt;
    this.imageId = identity.imageId;
    this.shownImage = identity.shownImage ?? { name: identity.config.image.image, reference: identity.imageId };
    this.user = identity.user;
    this.stopSignal = identity.stopSignal;
    this.seccompFilter = identity.seccompFilter;
    this.sandbox = sandbox;
    this.#resources = identity.config.resources;
  }

  /** Equal for a request and its retry, within the sandbox. */
  get key(): string {
    return containerKey(this.config);
  }

  get phase(): ContainerPhase {
    return this.#phase;
  }

  get bundle(): string {
    return bundlePath(this.sandbox, this.id);
  }

  get cgroup(): string {
    return `${this.sandbox.cgroup}/${this.id}`;
  }

  get logPath(): string {
    const { logDirectory } = this.sandbox.config;
    return logDirectory === "" || this.config.logPath === "" ? "" : join(logDirectory, this.config.logPath);
  }

  setPhase(phase: ContainerPhase): void {
    this.#phase = phase;
    this.#view = undefined;
  }

  setResources(resources: Resources | undefined): void {
    this.#resources = resources;
    this.#view = undefined;
  }

  /** The same object until something changes. */
  view(): ContainerView {
    this.#view ??= {
      id: this.id,
      sandboxId: this.sandbox.id,
      config: this.config,
      phase: this.#phase,
      createdAt: this.createdAt,
      imageId: this.imageId,
      shownImage: this.shownImage,
      logPath: this.logPath,
      user: this.user,
      ...(this.#resources === undefined ? {} : { resources: this.#resources }),
      stopSignal: this.stopSignal,
    };
    return this.#view;
  }
}

export function containerKey(config: ContainerConfig): string {
  return JSON.stringify([config.metadata.name, config.metadata.attempt]);
}

export function bundlePath(sandbox: Sandbox, id: ContainerId): string {
  return join(sandbox.podDirectory, "containers", id);
}

/** Leads to the PID namespace of the target, for pid mode "target": the monitor makes it for the start. */
export function targetPidNamespace(bundle: string): string {
  return join(bundle, "pid-namespace");
}

/** What the monitor says of a container, as a phase. */
export function phaseOf(run: ContainerRun): ContainerPhase {
  return run.state === "running" ? { state: "running", startedAt: run.startedAt, pid: run.pid } : exitedPhase(run);
}

export function exitedPhase(run: ExitedRun): ExitedPhase {
  return {
    state: "exited",
    startedAt: run.startedAt,
    finishedAt: run.finishedAt,
    exitCode: run.exitCode,
    reason: run.oomKilled ? "OOMKilled" : run.exitCode === 0 ? "Completed" : "Error",
    message: "",
  };
}
