// RunPodSandbox: a retry joins the start that is under way or gets what it made; what nobody asks for again is removed.

import { setTimeout as delay } from "node:timers/promises";
import { Creations } from "./creations.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { announceSandbox } from "./events-of.ts";
import type { RuntimeHandler } from "./handlers.ts";
import { type Sandbox, sandboxKey } from "./sandbox.ts";
import { newSandbox, startSandbox } from "./sandbox-start.ts";
import type { SandboxConfig, SandboxId } from "./types.ts";
import { keepUnmaking } from "./unmade.ts";

/** What the model does about a sandbox. */
interface Model {
  started(sandbox: Sandbox): void;
  remove(sandbox: Sandbox): Promise<void>;
}

const never = new AbortController().signal;

export class SandboxRuns {
  readonly #env: Environment;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #closing: AbortSignal;
  readonly #model: Model;
  readonly #starts = new Creations<Sandbox>((sandbox) => this.#leftUnclaimed(sandbox));

  constructor(env: Environment, sandboxes: Map<string, Sandbox>, closing: AbortSignal, model: Model) {
    this.#env = env;
    this.#sandboxes = sandboxes;
    this.#closing = closing;
    this.#model = model;
  }

  /** The sandbox that is ready under this name, one whose start is under way, or a new one. */
  async run(config: SandboxConfig, handler: RuntimeHandler, signal: AbortSignal): Promise<SandboxId> {
    const key = sandboxKey(config);
    // Ready in memory is not ready on record: one whose start is not over yet may still be undone.
    const earlier = this.#starts.isUnderWay(key)
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
      "starting",
      signal,
      async () => await this.#start(config, handler),
    );
    this.claim(sandbox);
    return sandbox.id;
  }

  /** Somebody has it, or asks for what is in it: from now on it is seen. */
  claim(sandbox: Sandbox): void {
    if (sandbox.visible) return;
    sandbox.visible = true;
    announceSandbox(this.#env, sandbox, "created");
    announceSandbox(this.#env, sandbox, "started");
  }

  /** Its start could not be taken back whole, or what nobody asked for not removed. */
  leftUnmade(sandbox: Sandbox): void {
    const model = {
      isListed: () => this.#sandboxes.has(sandbox.id),
      remove: async () => await this.#model.remove(sandbox),
    };
    keepUnmaking(this.#env, sandbox, model, this.#closing).catch((error: unknown) => {
      if (!this.#closing.aborted)
        this.#env.log("error", `pod sandbox ${sandbox.id}: taking its start back failed: ${String(error)}`);
    });
  }

  async #start(config: SandboxConfig, handler: RuntimeHandler): Promise<Sandbox> {
    await handler.check();
    const sandbox = newSandbox(this.#env, config, handler, this.#sandboxes.values());
    this.#sandboxes.set(sandbox.id, sandbox);
    try {
      // Who has its id already, as from `keelson status`, can neither stop nor remove it before it is made or undone.
      await sandbox.queue.run(`pod sandbox ${sandbox.id}`, "starting", never, limits.queue, async () => {
        await startSandbox(this.#env, sandbox);
      });
    } catch (error) {
      if (sandbox.leftovers.length === 0) this.#sandboxes.delete(sandbox.id);
      else this.leftUnmade(sandbox);
      throw error;
    }
    this.#model.started(sandbox);
    return sandbox;
  }

  /** Every caller gave up before the start was done: the retry gets it, or it goes after a while. */
  #leftUnclaimed(sandbox: Sandbox): void {
    const reap = async () => {
      await delay(limits.unclaimed, undefined, { signal: this.#closing, ref: false });
      if (sandbox.visible) return;
      this.#env.log("info", `pod sandbox ${sandbox.id} was made, but nobody asked for it again; it is removed`);
      await this.#model.remove(sandbox);
    };
    reap().catch((error: unknown) => {
      if (this.#closing.aborted) return;
      this.#env.log("warn", `pod sandbox ${sandbox.id} could not be removed yet: ${String(error)}`);
      // A ready one has waited in vain for its turn, and may be asked for yet.
      if (sandbox.ready) this.#leftUnclaimed(sandbox);
      else this.leftUnmade(sandbox);
    });
  }
}

/** Its name is taken until it is removed; the remains of a start that failed take nobody's. */
function isStopped({ life, visible }: Sandbox): boolean {
  return visible && (life === "stopping" || life === "stopped");
}
