// Host paths from requests: mount sources, devices, and checkpoint locations. One may be on a file system whose server
// is down, where a lookup never returns: it must block neither its own pod nor others.

import { getSystemErrorMessage } from "node:util";
import { type Host, HostError, messageOf, orAborted, Slots, TimeLimit } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";

/** How long a file system may take, in milliseconds. The kubelet retries later, when its server may be back. */
const answerMs = 10_000;
/** Concurrent lookups, each a thread and a process. Dead file systems must not use up the host's limits. */
const maxLookups = 256;

interface Lookup {
  readonly answer: Promise<string>;
}

type Way = "resolvePath" | "presentPath";

export class HostPaths {
  readonly #host: Pick<Host, Way>;
  readonly #slots = new Slots(maxLookups);
  /** Running lookups, by method and path: a retry for a hanging path joins the running lookup. */
  readonly #lookups = new Map<string, Lookup>();

  constructor(host: Pick<Host, Way>) {
    this.#host = host;
  }

  /** The mount's source with symlinks resolved. A missing one is created as a directory, as kubelets expect. */
  async present({ hostPath: source, containerPath: target }: Mount): Promise<string> {
    using limit = new TimeLimit(answerMs, () =>
      podErrors.mountSourceSilent({ source, target, seconds: answerMs / 1000 }),
    );
    const { answer } = await this.#lookUp("presentPath", source, limit.signal);
    const resolved = answer.catch((error: unknown) => {
      throw podErrors.mountSource({ source, target, reason: reasonOf(error) }, error);
    });
    return await orAborted(resolved, limit.signal);
  }

  /** The path of the device, or directory of devices, with symlinks resolved. */
  async ofDevice(path: string): Promise<string> {
    using limit = new TimeLimit(answerMs, () => podErrors.deviceSilent({ path, seconds: answerMs / 1000 }));
    const { answer } = await this.#lookUp("resolvePath", path, limit.signal);
    const resolved = answer.catch((error: unknown) => {
      throw podErrors.deviceMissing({ path, reason: reasonOf(error) }, error);
    });
    return await orAborted(resolved, limit.signal);
  }

  /** Rejects only when the file system does not answer; other errors are ignored. */
  async requireAnswer(location: string): Promise<void> {
    using limit = new TimeLimit(answerMs, () => podErrors.checkpointSilent({ location, seconds: answerMs / 1000 }));
    const { answer } = await this.#lookUp("resolvePath", location, limit.signal);
    const answered = answer.catch(() => undefined);
    await orAborted(answered, limit.signal);
  }

  async #lookUp(way: Way, path: string, signal: AbortSignal): Promise<Lookup> {
    const key = `${way} ${path}`;
    const running = this.#lookups.get(key);
    if (running !== undefined) return running;
    await this.#slots.take(signal);
    const startedMeanwhile = this.#lookups.get(key);
    if (startedMeanwhile !== undefined) {
      this.#slots.release();
      return startedMeanwhile;
    }
    const answer = this.#host[way](path).finally(() => {
      this.#lookups.delete(key);
      this.#slots.release();
    });
    this.#lookups.set(key, { answer });
    return { answer };
  }
}

/** Only the kernel's error message, without HostError's own advice, because the path is at fault. */
function reasonOf(error: unknown): string {
  return error instanceof HostError && error.errno !== 0 ? getSystemErrorMessage(-error.errno) : messageOf(error);
}
