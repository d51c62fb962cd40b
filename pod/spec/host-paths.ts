// Paths of the host that containers mount. One may lie on a file system whose server is gone, where a look never ends: it
// holds up neither its pod nor another.

import { type Host, KeelsonError, messageOf, withTimeLimit } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";

/** Milliseconds that a file system may take: a server that starts again comes back in a later try of the kubelet's. */
const answerMs = 10_000;
/** Looks under way, each a thread. Dead file systems must not take all threads that the host allows. */
const mostLooks = 256;

export class HostPaths {
  readonly #host: Pick<Host, "presentPath">;
  /** Those under way, by path: the next try of one that hangs waits for the same look. */
  readonly #looks = new Map<string, Promise<string>>();

  constructor(host: Pick<Host, "presentPath">) {
    this.#host = host;
  }

  /** The mount's source with its links resolved. A missing one becomes a directory, as kubelets expect of every runtime. */
  async present({ hostPath: source, containerPath: target }: Mount): Promise<string> {
    try {
      return await withTimeLimit(this.#look(source), answerMs, () =>
        podErrors.mountSourceSilent({ source, target, seconds: answerMs / 1000 }),
      );
    } catch (error) {
      if (error instanceof KeelsonError && error.name === "mountSourceSilent") throw error;
      throw podErrors.mountSource({ source, target, reason: messageOf(error) }, error);
    }
  }

  async #look(source: string): Promise<string> {
    const underWay = this.#looks.get(source);
    if (underWay !== undefined) return await underWay;
    if (this.#looks.size >= mostLooks)
      throw new Error(`${mostLooks} others have had no answer from their file systems`);
    const look = this.#host.presentPath(source).finally(() => this.#looks.delete(source));
    this.#looks.set(source, look);
    return await look;
  }
}
