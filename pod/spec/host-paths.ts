// Paths of the host that containers mount. One may lie on a file system whose server is gone, where a look never ends: it
// holds up neither its pod nor another.

import { type Host, messageOf, orAborted, Slots, TimeLimit } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";

/** Milliseconds that a file system may take: a server that starts again comes back in a later try of the kubelet's. */
const answerMs = 10_000;
/** Looks at once, each a thread and a process. Dead file systems must not take all that the host allows. */
const looksAtOnce = 256;

interface Look {
  readonly answer: Promise<string>;
}

export class HostPaths {
  readonly #host: Pick<Host, "presentPath">;
  readonly #slots = new Slots(looksAtOnce);
  /** Those under way, by path: the next try of one that hangs waits for the same look. */
  readonly #looks = new Map<string, Look>();

  constructor(host: Pick<Host, "presentPath">) {
    this.#host = host;
  }

  /** The mount's source with its links resolved. A missing one becomes a directory, as kubelets expect of every runtime. */
  async present({ hostPath: source, containerPath: target }: Mount): Promise<string> {
    using limit = new TimeLimit(answerMs, () =>
      podErrors.mountSourceSilent({ source, target, seconds: answerMs / 1000 }),
    );
    const { answer } = this.#looks.get(source) ?? (await this.#begin(source, limit.signal));
    const told = answer.catch((error: unknown) => {
      throw podErrors.mountSource({ source, target, reason: messageOf(error) }, error);
    });
    return await orAborted(told, limit.signal);
  }

  async #begin(source: string, signal: AbortSignal): Promise<Look> {
    await this.#slots.take(signal);
    const begunMeanwhile = this.#looks.get(source);
    if (begunMeanwhile !== undefined) {
      this.#slots.giveBack();
      return begunMeanwhile;
    }
    const answer = this.#host.presentPath(source).finally(() => {
      this.#looks.delete(source);
      this.#slots.giveBack();
    });
    this.#looks.set(source, { answer });
    return { answer };
  }
}
