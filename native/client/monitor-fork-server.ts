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

export interface Fork {
  /** From which the frames of the monitor's readiness come; the caller's to close. */
  readonly descriptor: number;
  /** Kills the server that was asked: what it has not forked yet will not come. The next pod's starts another. */
  readonly giveUp: () => Promise<void>;
}

interface Server {
  readonly child: Child;
  readonly socket: number;
}

/** The name of a pod's directory is the pod's id. */
const idLength = 64;

export class MonitorForkServer {
  readonly #options: ForkServerOptions;
  #server: Promise<Server> | undefined;

  constructor(options: ForkServerOptions) {
    this.#options = options;
  }

  /** Asks for a pod's monitor. Rejects as startChild does, and when the server takes nothing any more. */
  async fork(podDirectory: string): Promise<Fork> {
    try {
      return await this.#ask(podDirectory);
    } catch (error) {
      if (!isGone(error)) throw error;
      return await this.#ask(podDirectory);
    }
  }

  async end(): Promise<void> {
    if (this.#server !== undefined) await this.#kill(this.#server);
  }

  async #ask(podDirectory: string): Promise<Fork> {
    const server = this.#running();
    const { socket } = await server;
    const giveUp = async () => await this.#kill(server);
    try {
      return { descriptor: ownHost().askForFork(socket, podDirectory), giveUp };
    } catch (error) {
      const told = asNodeError(error, "sendmsg", podDirectory);
      if (isGone(told)) await giveUp();
      if (isErrno(told, "EAGAIN")) throw new Error("the process that monitors are forked from takes no more requests");
      throw told;
    }
  }

  #running(): Promise<Server> {
    if (this.#server !== undefined) return this.#server;
    const server = this.#start();
    this.#server = server;
    const forget = () => this.#forget(server);
    server.then(({ child }) => child.exit.then(forget), forget);
    return server;
  }

  #forget(server: Promise<Server>): void {
    if (this.#server === server) this.#server = undefined;
  }

  async #kill(server: Promise<Server>): Promise<void> {
    this.#forget(server);
    (await server.catch(() => undefined))?.child.kill();
  }

  async #start(): Promise<Server> {
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
    // Who has got this server in the turn in which it ended still asks it: by then the number may be another descriptor's.
    void child.exit.then(() => setImmediate(closeSync, socket));
    return { child, socket };
  }
}

/** Of the server, which has ended; any other error is of the one request. */
function isGone(error: unknown): boolean {
  return isErrno(error, "EPIPE", "ECONNRESET");
}
