// One container: its identity and its phase. It is changed by container-create.ts, container-life.ts and update.ts.

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
  /** Absent in records of older daemons, which showed the image id. */
  readonly shownImage?: ShownImage;
  readonly user: ContainerUser;
  readonly stopSignal: string;
  /** Path of the compiled seccomp filter, if it has one. */
  readonly seccompFilter?: string;
}

export interface CheckpointUnderway {
  /** Aborts it; resolves when the container is thawed. With `urgently`, the container's processes may be damaged. */
  readonly breakOff: (urgently: boolean) => Promise<void>;
  /** Resolves when all its work is done. Never rejects. */
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

  /** The number of stops in progress. Stops do not wait for a checkpoint, and no checkpoint starts meanwhile. */
  stops = 0;

  /** Set by the first removal, and recorded before anything is removed. */
  removing = false;

  /** The kernel has refused an update's OOM score, and this has been logged. */
  scoreRefused = false;

  /** While a start is in progress: its completion, and a way to abort it. */
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

  /** The same for a request and its retry; unique within the sandbox. */
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

  /** Returns the same object until something changes. */
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

/** Path of the target's PID namespace, for pid mode "target"; the monitor creates it for the start. */
export function targetPidNamespace(bundle: string): string {
  return join(bundle, "pid-namespace");
}

/** The phase for a container state reported by the monitor. */
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
