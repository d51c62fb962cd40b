// Paths of the host that requests name: what containers mount, their devices, and where checkpoints go. One may lie on a file
// system whose server is gone, where a look never ends: it holds up neither its pod nor another.

import { getSystemErrorMessage } from "node:util";
import { type Host, HostError, messageOf, orAborted, Slots, TimeLimit } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";

/** Milliseconds that a file system may take: a server that starts again comes back in a later try of the kubelet's. */
const answerMs = 10_000;
/** Looks at once, each a thread and a process. Dead file systems must not take all that the host allows. */
const looksAtOnce = 256;

interface Look {
  readonly answer: Promise<string>;
}

type Way = "resolvePath" | "presentPath";

export class HostPaths {
  readonly #host: Pick<Host, Way>;
  readonly #slots = new Slots(looksAtOnce);
  /** Those under way, by way and path: the next try of one that hangs waits for the same look. */
  readonly #looks = new Map<string, Look>();

  constructor(host: Pick<Host, Way>) {
    this.#host = host;
  }

  /** The mount's source with its links resolved. A missing one becomes a directory, as kubelets expect of every runtime. */
  async present({ hostPath: source, containerPath: target }: Mount): Promise<string> {
    using limit = new TimeLimit(answerMs, () =>
      podErrors.mountSourceSilent({ source, target, seconds: answerMs / 1000 }),
    );
    const { answer } = await this.#look("presentPath", source, limit.signal);
    const told = answer.catch((error: unknown) => {
      throw podErrors.mountSource({ source, target, reason: reasonOf(error) }, error);
    });
    return await orAborted(told, limit.signal);
  }

  /** The device's path, or that of a directory of them, with its links resolved. */
  async ofDevice(path: string): Promise<string> {
    using limit = new TimeLimit(answerMs, () => podErrors.deviceSilent({ path, seconds: answerMs / 1000 }));
    const { answer } = await this.#look("resolvePath", path, limit.signal);
    const told = answer.catch((error: unknown) => {
      throw podErrors.deviceMissing({ path, reason: reasonOf(error) }, error);
    });
    return await orAborted(told, limit.signal);
  }

  /** Rejects where the file system does not answer, whatever else may be wrong with the path. */
  async requireAnswer(location: string): Promise<void> {
    using limit = new TimeLimit(answerMs, () => podErrors.checkpointSilent({ location, seconds: answerMs / 1000 }));
    const { answer } = await this.#look("resolvePath", location, limit.signal);
    const answered = answer.catch(() => undefined);
    await orAborted(answered, limit.signal);
  }

  async #look(way: Way, path: string, signal: AbortSignal): Promise<Look> {
    const key = `${way} ${path}`;
    const underWay = this.#looks.get(key);
    if (underWay !== undefined) return underWay;
    await this.#slots.take(signal);
    const begunMeanwhile = this.#looks.get(key);
    if (begunMeanwhile !== undefined) {
      this.#slots.giveBack();
      return begunMeanwhile;
    }
    const answer = this.#host[way](path).finally(() => {
      this.#looks.delete(key);
      this.#slots.giveBack();
    });
    this.#looks.set(key, { answer });
    return { answer };
  }
}

/** What the kernel said, without the host's own advice: it is the path that is wrong. */
function reasonOf(error: unknown): string {
  return error instanceof HostError && error.errno !== 0 ? getSystemErrorMessage(-error.errno) : messageOf(error);
}
