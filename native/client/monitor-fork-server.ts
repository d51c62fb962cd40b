// The process from which pods' monitors are forked: started for the first pod, and restarted if it exits (PROTOCOL.md,
// "Start").

import { closeSync } from "node:fs";
import { join } from "node:path";
import { type Child, startChild } from "../processes/child.ts";
import { isErrno } from "./errors.ts";
import { ownHost } from "./host.ts";
import { asNodeError } from "./host-errors.ts";

export interface ForkServerOptions {
  /** A sealed copy of keelson-monitor (Host.sealedCopy); must stay open. */
  readonly executableFd: number;
  /** The mount namespace from which its containers start (Host.emptyMountNamespace); must stay open. */
  readonly emptyMountsFd: number;
  /** Absolute path of the parent of the pod directories. */
  readonly podsDirectory: string;
}

export interface Fork {
  /** Delivers the frames of the monitor's start report; the caller must close it. */
  readonly descriptor: number;
  /** Kills the fork server, so that pending forks do not happen. The next pod starts another server. */
  readonly giveUp: () => Promise<void>;
}

interface Server {
  readonly child: Child;
  readonly socket: number;
}

/** A pod's directory is named after the pod's id. */
const idLength = 64;

export class MonitorForkServer {
  readonly #options: ForkServerOptions;
  #server: Promise<Server> | undefined;

  constructor(options: ForkServerOptions) {
    this.#options = options;
  }

  /** Requests a pod's monitor. Rejects as startChild does, and if the server's queue is full. */
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
      const nodeError = asNodeError(error, "sendmsg", podDirectory);
      if (isGone(nodeError)) await giveUp();
      if (isErrno(nodeError, "EAGAIN")) throw new Error("the monitors' fork server accepts no more requests");
      throw nodeError;
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
      // The last argument reserves room in the command line for `run`, a letter shorter, and a pod's directory.
      args: ["fork", join(podsDirectory, "-".repeat(idLength - 1))],
      cwd: "/",
      // From the daemon's environment, pass only PATH, to find OCI runtime binaries.
      env: { PATH: process.env.PATH },
      // Monitors log to their monitor.log, which they open themselves.
      descriptors: ["null", "null", "null", "socket", `${emptyMountsFd}`],
    });
    child.unref();
    const socket = child.pipes[3] ?? -1;
    // A caller that got this server in the event loop turn in which it exited still uses the socket: closing it at once
    // could let another file reuse its number.
    void child.exit.then(() => setImmediate(closeSync, socket));
    return { child, socket };
  }
}

/** Whether the error means that the server has exited; any other error concerns a single request. */
function isGone(error: unknown): boolean {
  return isErrno(error, "EPIPE", "ECONNRESET");
}
