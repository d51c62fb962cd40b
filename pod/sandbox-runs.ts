// RunPodSandbox: a retry joins the start in progress or gets its result; a result that nobody retries for is removed.

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KeelsonError } from "../native/index.ts";
import { Creations } from "./creations.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { announceSandbox } from "./events-of.ts";
import { keepRollingBack } from "./failed-start.ts";
import type { RuntimeHandler } from "./handlers.ts";
import type { PodName } from "./records.ts";
import type { Recovered } from "./recovery.ts";
import { type Sandbox, sandboxKey } from "./sandbox.ts";
import { newSandbox, startSandbox } from "./sandbox-start.ts";
import type { SandboxConfig, SandboxId } from "./types.ts";

/** What the pod model must do with a sandbox. */
interface Model {
  started(sandbox: Sandbox): void;
  remove(sandbox: Sandbox): Promise<void>;
}

const never = new AbortController().signal;

export class SandboxRuns {
  readonly #env: Environment;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #leftAlone: Recovered["leftAlone"];
  readonly #closing: AbortSignal;
  readonly #model: Model;
  readonly #starts = new Creations<Sandbox>((sandbox) => this.#leftUnclaimed(sandbox));

  constructor(
    env: Environment,
    sandboxes: Map<string, Sandbox>,
    leftAlone: Recovered["leftAlone"],
    closing: AbortSignal,
    model: Model,
  ) {
    this.#env = env;
    this.#sandboxes = sandboxes;
    this.#leftAlone = leftAlone;
    this.#closing = closing;
    this.#model = model;
  }

  /** Returns the ready sandbox with this name, joins a start in progress, or starts a new sandbox. */
  async run(config: SandboxConfig, handler: RuntimeHandler, signal: AbortSignal): Promise<SandboxId> {
    if (this.#leftAlone.size > 0) await this.#refuseSecond(config.metadata);
    const key = sandboxKey(config);
    // A sandbox that is ready in memory may not be recorded yet: until its start returns, it can still be rolled back.
    const earlier = this.#starts.isInProgress(key)
      ? undefined
      : this.#sandboxes.values().find((sandbox) => sandbox.key === key && (sandbox.ready || isStopped(sandbox)));
    if (earlier !== undefined) {
      if (!earlier.ready) throw podErrors.sandboxExists({ id: earlier.id });
      this.claim(earlier);
      return earlier.id;
    }
    const object = `pod ${config.metadata.namespace}/${config.metadata.name}`;
    const sandbox = await this.#starts.run(
      key,
      object,
      "start",
      signal,
      async () => await this.#start(config, handler),
    );
    this.claim(sandbox);
    return sandbox.id;
  }

  /** Throws while a sandbox of this pod runs that is left alone, whatever its attempt: it is not listed. */
  async #refuseSecond({ name, namespace, uid }: PodName): Promise<void> {
    for (const [id, { pod, reason }] of this.#leftAlone) {
      if (pod?.uid !== uid || pod.name !== name || pod.namespace !== namespace) continue;
      if (await this.#hasMonitor(id)) throw podErrors.leftAlone({ id, reason });
    }
  }

  /** A monitor that does not answer still counts. */
  async #hasMonitor(id: string): Promise<boolean> {
    const monitor = this.#env.monitors.connect(join(this.#env.runDirectory, "pods", id));
    return await monitor.state({ timeoutMs: limits.call }).then(
      () => true,
      (error: unknown) => !(error instanceof KeelsonError && error.name === "monitorUnreachable"),
    );
  }

  /** Makes the sandbox visible, because a client got its id or uses it. */
  claim(sandbox: Sandbox): void {
    if (sandbox.visible) return;
    sandbox.visible = true;
    announceSandbox(this.#env, sandbox, "created");
    announceSandbox(this.#env, sandbox, "started");
  }

  /** Keeps retrying the removal of a sandbox whose start could not be rolled back, or that nobody claimed. */
  rollbackFailed(sandbox: Sandbox): void {
    const model = {
      isListed: () => this.#sandboxes.has(sandbox.id),
      remove: async () => await this.#model.remove(sandbox),
    };
    keepRollingBack(this.#env, sandbox, model, this.#closing).catch((error: unknown) => {
      if (!this.#closing.aborted)
        this.#env.log("error", `pod sandbox ${sandbox.id}: rolling back its start failed: ${String(error)}`);
    });
  }

  async #start(config: SandboxConfig, handler: RuntimeHandler): Promise<Sandbox> {
    await handler.check();
    const sandbox = newSandbox(this.#env, config, handler, this.#sandboxes.values());
    this.#sandboxes.set(sandbox.id, sandbox);
    try {
      // A client may know the id already, from `keelson status`. The queue keeps it from stopping or removing the
      // sandbox before it is started or rolled back.
      await sandbox.queue.run(`pod sandbox ${sandbox.id}`, "start", never, limits.queue, async () => {
        await startSandbox(this.#env, sandbox);
      });
    } catch (error) {
      if (sandbox.leftovers.length === 0) this.#sandboxes.delete(sandbox.id);
      else this.rollbackFailed(sandbox);
      throw error;
    }
    this.#model.started(sandbox);
    return sandbox;
  }

  /** All callers gave up before the start was done: a retry gets the sandbox, or it is removed after a while. */
  #leftUnclaimed(sandbox: Sandbox): void {
    const reap = async () => {
      await delay(limits.unclaimed, undefined, { signal: this.#closing, ref: false });
      if (sandbox.visible) return;
      this.#env.log("info", `pod sandbox ${sandbox.id} is removed: its callers gave up and nobody retried`);
      await this.#model.remove(sandbox);
    };
    reap().catch((error: unknown) => {
      if (this.#closing.aborted) return;
      this.#env.log("warn", `pod sandbox ${sandbox.id} could not be removed yet: ${String(error)}`);
      // If it is still ready, the removal did not get its turn in the queue, and a retry may still come.
      if (sandbox.ready) this.#leftUnclaimed(sandbox);
      else this.rollbackFailed(sandbox);
    });
  }
}

/** A stopped sandbox keeps its name until it is removed; the remains of a failed start do not. */
function isStopped({ life, visible }: Sandbox): boolean {
  return visible && (life === "stopping" || life === "stopped");
}
