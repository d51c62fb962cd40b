// Watches the runtime for exited containers and sandboxes: relists every second, and at once on an event.
//
// A server without events, or a temporarily unreachable one, only makes this slower.

import type { runtime } from "../api/generated/messages.js";
import { runtime as messages } from "../api/generated/messages.js";
import { type Cri, isUnreachable, sentenceOf } from "./cri-client.ts";
import { runLabel } from "./pod-config.ts";
import type { Report } from "./report.ts";
import { sleep } from "./wait.ts";

const { ContainerState, PodSandboxState } = messages.v1;
const relistMs = 1000;

interface Watch {
  readonly ended: PromiseWithResolvers<void>;
  /** Lists requested before this one may not contain the watched object. */
  readonly since: number;
}

export class RuntimeView {
  readonly #cri: Pick<Cri, "listContainers" | "listPodSandbox" | "containerEvents">;
  readonly #run: string;
  readonly #report: Report;
  readonly #containers = new Map<string, Watch>();
  readonly #sandboxes = new Map<string, Watch>();
  #lists = 0;
  #wake = new AbortController();
  #away = false;
  readonly #closing = new AbortController();

  constructor(cri: Pick<Cri, "listContainers" | "listPodSandbox" | "containerEvents">, run: string, report: Report) {
    this.#cri = cri;
    this.#run = run;
    this.#report = report;
  }

  /** Aborts when the view closes. */
  get open(): AbortSignal {
    return this.#closing.signal;
  }

  /** Resolves when the container has exited or no longer exists; rejects when the view closes. */
  async containerEnd(id: string): Promise<void> {
    await this.#watch(this.#containers, id);
  }

  /** Resolves when the sandbox is no longer ready or no longer exists; rejects when the view closes. */
  async sandboxEnd(id: string): Promise<void> {
    await this.#watch(this.#sandboxes, id);
  }

  /** Runs until the signal aborts, which closes the view. Never rejects. */
  async follow(signal: AbortSignal): Promise<void> {
    const events = this.#followEvents(signal);
    while (!signal.aborted) {
      this.#wake = new AbortController();
      await this.#relist().catch((error: unknown) => this.#failed(error));
      await sleep(relistMs, AbortSignal.any([signal, this.#wake.signal])).catch(() => undefined);
    }
    this.#closing.abort(signal.reason);
    for (const watch of [...this.#containers.values(), ...this.#sandboxes.values()]) watch.ended.reject(signal.reason);
    await events;
  }

  async #watch(watches: Map<string, Watch>, id: string): Promise<void> {
    const watch = watches.get(id) ?? { ended: Promise.withResolvers<void>(), since: this.#lists };
    watches.set(id, watch);
    await watch.ended.promise;
  }

  async #followEvents(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#cri.containerEvents(() => this.#wake.abort(), signal);
      await sleep(relistMs, signal).catch(() => undefined);
    }
  }

  async #relist(): Promise<void> {
    if (this.#containers.size + this.#sandboxes.size === 0) return;
    this.#lists += 1;
    const number = this.#lists;
    const labelSelector = { [runLabel]: this.#run };
    const [{ containers }, { items }] = await Promise.all([
      this.#cri.listContainers({ filter: { labelSelector } }),
      this.#cri.listPodSandbox({ filter: { labelSelector } }),
    ]);
    settle(this.#containers, number, alive(containers, ContainerState.CONTAINER_EXITED));
    settle(this.#sandboxes, number, alive(items, PodSandboxState.SANDBOX_NOTREADY));
    if (this.#away) this.#report.line("runtime", "answers again");
    this.#away = false;
  }

  #failed(error: unknown): void {
    if (this.#away) return;
    this.#away = true;
    const what = isUnreachable(error) ? "does not answer; containers keep running" : sentenceOf(error);
    this.#report.line("runtime", `${what}; waiting for it`);
  }
}

function alive(
  items: readonly (runtime.v1.Container.$Properties | runtime.v1.PodSandbox.$Properties)[],
  dead: number,
): ReadonlySet<string> {
  return new Set(items.flatMap(({ id, state }) => (state === dead || !id ? [] : [id])));
}

function settle(watches: Map<string, Watch>, list: number, alive: ReadonlySet<string>): void {
  for (const [id, { ended, since }] of watches) {
    if (since >= list || alive.has(id)) continue;
    watches.delete(id);
    ended.resolve();
  }
}
