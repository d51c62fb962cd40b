// The lifecycle of one container of a pod: pull, create, start, probe, and restart by its restart policy.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../../native/index.ts";
import { runtime } from "../api/generated/messages.js";
import { BackOff } from "./back-off.ts";
import { type Cri, isUnreachable, sentenceOf, stopContainer } from "./cri-client.ts";
import type { Images, ReadyImage } from "./images.ts";
import { rotateLog } from "./log-rotation.ts";
import { logDirectory, logPath, type PodIdentity } from "./pod-config.ts";
import { type ProbeVerdict, probe } from "./probes.ts";
import type { Report } from "./report.ts";
import type { RuntimeView } from "./runtime-view.ts";
import type { Container } from "./supported.ts";
import { Latch, sleep } from "./wait.ts";

const { CONTAINER_EXITED } = runtime.v1.ContainerState;

/** The kubelet's delay after an error that is not subject to back-off. */
const retryMs = 10_000;
/** The logs of the current and the previous attempt are kept. */
const logsKept = 2;

export type RestartPolicy = "Always" | "OnFailure" | "Never";

export interface ContainerExit {
  readonly exitCode: number;
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly finishedAt: number;
  /** Whether it was stopped because of a probe, whatever its exit code. */
  readonly unhealthy: boolean;
}

/** The dependencies of a worker. */
export interface WorkerContext {
  readonly cri: Cri;
  readonly view: RuntimeView;
  readonly images: Images;
  readonly report: Report;
  readonly host: Pick<Host, "unmount" | "removeTree">;
  /** Called when a log begins; `ended` resolves when the container exits. */
  readonly onLog: (about: string, path: string, ended: Promise<void>) => void;
}

/** The sandbox of a container, and the container's configuration in it. */
export interface Home {
  readonly sandboxId: string;
  readonly sandboxConfig: runtime.v1.PodSandboxConfig.$Properties;
  readonly podIp: string;
  /** Between the stop signal and SIGKILL. */
  readonly graceSeconds: number;
  configOf(
    container: Container,
    restartCount: number,
    images: ReadonlyMap<string, ReadyImage>,
  ): runtime.v1.ContainerConfig.$Properties;
  /** The images that a container needs, with their policies: its own and those of its volumes. */
  imagesOf(container: Container): ReadonlyMap<string, string | undefined>;
  /** The variables that a probe's command may refer to. */
  literalsOf(container: Container): ReadonlyMap<string, Buffer>;
}

export class ContainerWorker {
  readonly container: Container;
  /** Opens when it runs and its startup probe, if any, has passed. */
  started = new Latch();
  /** Opens when its first start in the sandbox has been attempted, successfully or not. */
  tried = new Latch();
  restartCount = 0;
  ready = false;
  /** Its last exit. */
  exit: ContainerExit | undefined;
  /** Why it is not running yet, if it is waiting. */
  waiting: string | undefined;
  readonly #context: WorkerContext;
  readonly #pod: PodIdentity;
  readonly #about: string;
  readonly #backOff = new BackOff();
  readonly #imageBackOff = new BackOff();
  readonly #onRestart: () => void;
  #runningId: string | undefined;
  /** The start in progress: a container that is being started must also be stopped. */
  #starting: Promise<unknown> = Promise.resolve();
  #deadId: string | undefined;

  constructor(container: Container, pod: PodIdentity, context: WorkerContext, onRestart: () => void) {
    this.container = container;
    this.#context = context;
    this.#pod = pod;
    this.#about = `${pod.namespace}/${pod.name}/${container.name}`;
    this.#onRestart = onRestart;
  }

  get everStarted(): boolean {
    return this.isRunning || this.exit !== undefined;
  }

  get isRunning(): boolean {
    return this.#runningId !== undefined;
  }

  /** Runs it until its restart policy is satisfied, which Always never is. Rejects with the signal's reason. */
  async run(home: Home, policy: RestartPolicy, ending: AbortSignal): Promise<ContainerExit> {
    this.tried = new Latch();
    for (;;) {
      if (this.exit !== undefined) await this.#delayRestart(this.exit, ending);
      const exit = await this.#runOnce(home, ending);
      if (!restarts(policy, exit)) return exit;
      ending.throwIfAborted();
    }
  }

  /** Stops it if it is running. */
  async stop(graceSeconds: number): Promise<void> {
    await this.#starting;
    const id = this.#runningId;
    if (id === undefined) return;
    await stopContainer(this.#context.cri, id, graceSeconds);
  }

  async #delayRestart({ finishedAt }: ContainerExit, ending: AbortSignal): Promise<void> {
    const ms = this.#backOff.after(finishedAt, Date.now());
    if (ms > 0) {
      this.#wait("CrashLoopBackOff", `restarting in ${Math.round(ms / 1000)} s`);
      await sleep(ms, ending);
    }
    ending.throwIfAborted();
    this.#backOff.tried(finishedAt, Date.now());
    this.restartCount += 1;
    this.started = new Latch();
    this.#onRestart();
    // This restart may have exceeded the Job's backoffLimit.
    ending.throwIfAborted();
  }

  async #runOnce(home: Home, ending: AbortSignal): Promise<ContainerExit> {
    const id = await this.#create(home, ending);
    const starting = this.#start(id);
    this.#starting = starting;
    const startError = await starting;
    this.tried.open();
    const exit = startError ?? (await this.#supervise(id, home, ending));
    this.exit = exit;
    this.#runningId = undefined;
    this.#deadId = id;
    this.ready = false;
    this.#say(
      startError
        ? `could not start: ${exit.reason}`
        : `exit ${exit.exitCode}${exit.reason === "Completed" ? "" : ` (${exit.reason})`}`,
    );
    return exit;
  }

  /** Returns the id of the created container; retries until it succeeds or the signal aborts. */
  async #create(home: Home, ending: AbortSignal): Promise<string> {
    for (;;) {
      const images = await this.#images(home, ending);
      try {
        await this.#removeDead();
        const { sandboxId: podSandboxId, sandboxConfig } = home;
        const config = home.configOf(this.container, this.restartCount, images);
        ending.throwIfAborted();
        const { containerId } = await this.#context.cri.createContainer({ podSandboxId, config, sandboxConfig });
        ending.throwIfAborted();
        return containerId;
      } catch (error) {
        ending.throwIfAborted();
        this.#wait("CreateContainerError", sentenceOf(error));
        await sleep(isUnreachable(error) ? 1000 : retryMs, ending);
      }
    }
  }

  async #images(home: Home, ending: AbortSignal): Promise<ReadonlyMap<string, ReadyImage>> {
    for (;;) {
      try {
        const ready = new Map<string, ReadyImage>();
        for (const [reference, policy] of home.imagesOf(this.container))
          ready.set(reference, await this.#context.images.ensure(reference, policy, home.sandboxConfig, ending));
        return ready;
      } catch (error) {
        ending.throwIfAborted();
        const now = Date.now();
        this.#imageBackOff.tried(now, now);
        const ms = isUnreachable(error) ? 1000 : this.#imageBackOff.after(now, now);
        this.#wait("ErrImagePull", `${sentenceOf(error)} Retrying in ${ms / 1000} s.`);
        await sleep(ms, ending);
      }
    }
  }

  async #removeDead(): Promise<void> {
    if (this.#deadId !== undefined) await this.#context.cri.removeContainer({ containerId: this.#deadId });
    this.#deadId = undefined;
    const old = this.restartCount - logsKept;
    if (old >= 0)
      await Promise.all([this.#logPath(old), `${this.#logPath(old)}.1`].map((path) => rm(path, { force: true })));
  }

  #logPath(restartCount: number): string {
    return join(logDirectory(this.#pod), logPath(this.container.name, restartCount));
  }

  /** Undefined if it is running; otherwise the outcome of the failed start. */
  async #start(containerId: string): Promise<ContainerExit | undefined> {
    try {
      await this.#context.cri.startContainer({ containerId });
    } catch (error) {
      const { status } = await this.#context.cri.containerStatus({ containerId }).catch(() => ({ status: undefined }));
      if (status?.state !== runtime.v1.ContainerState.CONTAINER_RUNNING) {
        const exitCode = status?.state === CONTAINER_EXITED ? (status.exitCode ?? 128) : 128;
        return {
          exitCode: exitCode || 128,
          reason: `StartError: ${sentenceOf(error)}`,
          finishedAt: Date.now(),
          unhealthy: false,
        };
      }
    }
    this.#runningId = containerId;
    this.waiting = undefined;
    this.#say(this.restartCount === 0 ? "started" : `restarted (restart ${this.restartCount})`);
    return undefined;
  }

  /** Supervises it from its start to its exit; failed probes stop it. */
  async #supervise(containerId: string, home: Home, ending: AbortSignal): Promise<ContainerExit> {
    const { view, cri, onLog } = this.#context;
    const ended = view.containerEnd(containerId);
    onLog(this.#about, this.#logPath(this.restartCount), ended);
    const over = new AbortController();
    let verdict: ProbeVerdict | undefined;
    const target = {
      container: this.container,
      containerId,
      podIp: home.podIp,
      environment: home.literalsOf(this.container),
    };
    const probing = probe(cri, target, this.#probeEvents(), AbortSignal.any([over.signal, ending])).then(
      async (found) => {
        verdict = found;
        this.#say(`${found.probe} probe failed; stopping it`);
        await this.stop(found.graceSeconds ?? home.graceSeconds);
      },
      () => undefined,
    );
    const rotating = rotateLog(cri, containerId, this.#logPath(this.restartCount), over.signal);
    try {
      await ended;
    } finally {
      over.abort();
      await rotating;
    }
    await probing.catch(() => undefined);
    return await this.#exitOf(containerId, verdict !== undefined);
  }

  #probeEvents() {
    const hasReadiness = this.container.readinessProbe !== undefined;
    return {
      started: () => {
        if (this.container.startupProbe) this.#say("startup probe passed");
        this.started.open();
      },
      ready: (ready: boolean) => {
        if (hasReadiness && ready !== this.ready) this.#say(ready ? "ready" : "not ready");
        this.ready = ready;
      },
      failed: (name: string, answer: string) => this.#say(`${name} probe: ${answer}`),
    };
  }

  async #exitOf(containerId: string, unhealthy: boolean): Promise<ContainerExit> {
    for (;;) {
      try {
        const { status } = await this.#context.cri.containerStatus({ containerId });
        const finishedAt = Math.floor(Number(status?.finishedAt ?? 0) / 1e6);
        const exitCode = status?.exitCode ?? 0;
        const reason = status?.reason || (exitCode === 0 ? "Completed" : "Error");
        return { exitCode, reason, finishedAt: finishedAt || Date.now(), unhealthy };
      } catch (error) {
        // It was removed by someone else, and its exit code is lost.
        if (!isUnreachable(error))
          return { exitCode: 137, reason: "ContainerStatusUnknown", finishedAt: Date.now(), unhealthy };
        await sleep(1000, this.#context.view.open);
      }
    }
  }

  #wait(reason: string, message: string): void {
    // Reports each reason and message once, however often it is retried.
    const text = `${reason}: ${message}`;
    if (this.waiting !== text) this.#say(text);
    this.waiting = text;
    this.tried.open();
  }

  #say(text: string): void {
    this.#context.report.line(this.#about, text);
  }
}

function restarts(policy: RestartPolicy, { exitCode, unhealthy }: ContainerExit): boolean {
  return policy === "Always" || (policy === "OnFailure" && (exitCode !== 0 || unhealthy));
}
