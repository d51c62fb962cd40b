// The process that pods' monitors are forked from: started for the first pod, and again when it has ended (PROTOCOL.md, "Start").

import { closeSync } from "node:fs";
import { join } from "node:path";
import { type Child, startChild } from "../processes/child.ts";
import { isErrno } from "./errors.ts";
import { ownHost } from "./host.ts";
import { asNodeError } from "./host-errors.ts";

export interface ForkServerOptions {
  /** A sealed copy of keelson-monitor (Host.sealedCopy); it stays open. */
  readonly executableFd: number;
  /** Which its containers begin with (Host.emptyMountNamespace); it stays open. */
  readonly emptyMountsFd: number;
  /** Absolute; the pod directories are in it. */
  readonly podsDirectory: string;
}

interface Running {
  readonly child: Child;
  readonly socket: number;
}

/** The name of a pod's directory is the pod's id. */
const idLength = 64;

export class MonitorForkServer {
  readonly #options: ForkServerOptions;
  #running: Promise<Running> | undefined;

  constructor(options: ForkServerOptions) {
    this.#options = options;
  }

  /**
   * Has a monitor forked for the pod. Answers a descriptor, the caller's to close, from which the frames of its readiness
   * come. Rejects as startChild does, and with EAGAIN when the server takes nothing any more.
   */
  async fork(podDirectory: string): Promise<number> {
    const running = await this.#run();
    try {
      return ownHost().askForFork(running.socket, podDirectory);
    } catch (error) {
      const told = asNodeError(error, "sendmsg", podDirectory);
      if (!isErrno(told, "EPIPE", "ECONNRESET")) throw told;
      await this.end();
      return ownHost().askForFork((await this.#run()).socket, podDirectory);
    }
  }

  /** Kills it: what it has been asked for and has not forked yet will not come. The next pod's starts another. */
  async end(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    (await running?.catch(() => undefined))?.child.kill();
  }

  #run(): Promise<Running> {
    if (this.#running !== undefined) return this.#running;
    const starting = this.#start();
    this.#running = starting;
    const forget = () => {
      if (this.#running === starting) this.#running = undefined;
    };
    starting.then(({ child }) => child.exit.then(forget), forget);
    return starting;
  }

  async #start(): Promise<Running> {
    const { executableFd, emptyMountsFd, podsDirectory } = this.#options;
    const child = await startChild({
      file: `/proc/self/fd/${executableFd}`,
      argv0: "keelson-monitor",
      // The last word is room for a pod's directory in the command line, beside `run`, which is a letter shorter.
      args: ["fork", join(podsDirectory, "-".repeat(idLength - 1))],
      cwd: "/",
      // Nothing of the daemon's environment but the way to OCI runtime binaries.
      env: { PATH: process.env.PATH },
      // What monitors have to report goes to their monitor.log, which they open themselves.
      descriptors: ["null", "null", "null", "socket", `${emptyMountsFd}`],
    });
    child.unref();
    const socket = child.pipes[3] ?? -1;
    void child.exit.then(() => closeSync(socket));
    return { child, socket };
  }
}
