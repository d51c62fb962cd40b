// A container server under test: the interface that the scenarios use.

import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { accepts, type CriClient, connectCri } from "../../../fixtures/client.ts";
import type { ServerName } from "../report/samples.ts";

/** The part that is specific to each kind of server; `createServer` adds the rest. */
export interface ServerProcess {
  /** Including the versions of the programs that it uses. */
  readonly versions: string;
  readonly socket: string;
  /** The name (proc(5) comm) of its helper processes for pods or containers. */
  readonly helper: string;
  /** The pid of the running process. */
  readonly pid: number;
  /** Restarts it after `kill`, without waiting. */
  launch(): void;
  /** SIGKILL; resolves when it has exited. */
  kill(): Promise<void>;
  readonly logFile: string;
  readonly hasEnded: boolean;
}

export interface Server extends ServerProcess {
  readonly name: ServerName;
  /** A connection that lasts until the next start. */
  readonly client: CriClient;
  /**
   * Its cgroup in every hierarchy, which contains the server and everything it spawns; its pods' cgroups are below it.
   */
  readonly cgroup: string;
  /** Parent directory of the pods' logs. */
  readonly logs: string;
  /** Resolves when it accepts connections and `isReady` resolves with true. */
  ready(isReady: (client: CriClient) => Promise<boolean>): Promise<void>;
}

const readyDeadlineMs = 60_000;
/** Short compared to a recovery, but long enough to leave the processor to the server. */
const askAgainMs = 3;
const callDeadlineMs = 120_000;

export function createServer(
  name: ServerName,
  process: ServerProcess,
  place: { readonly cgroup: string; readonly logs: string },
): Server {
  let client: CriClient | undefined;
  return {
    name,
    versions: process.versions,
    socket: process.socket,
    helper: process.helper,
    cgroup: place.cgroup,
    logs: place.logs,
    get pid() {
      return process.pid;
    },
    get client() {
      if (client === undefined) throw new Error(`${name} is not connected`);
      return client;
    },
    launch: () => process.launch(),
    kill: async () => {
      client?.close();
      client = undefined;
      await process.kill();
    },
    logFile: process.logFile,
    get hasEnded() {
      return process.hasEnded;
    },
    async ready(isReady) {
      client = await connectReady(name, process, isReady);
    },
  };
}

/** Connects to a process that has just been started; resolves once `isReady` resolves with true. */
export async function connectReady(
  name: string,
  process: Pick<ServerProcess, "socket" | "logFile" | "hasEnded">,
  isReady: (client: CriClient) => Promise<boolean>,
): Promise<CriClient> {
  const until = performance.now() + readyDeadlineMs;
  const waitOn = async (holds: () => Promise<boolean>): Promise<void> => {
    while (!(await holds().catch(() => false))) {
      if (process.hasEnded || performance.now() > until)
        throw new Error(`${name} is not ready within ${readyDeadlineMs} ms:\n${await logEnd(process)}`);
      await delay(askAgainMs);
    }
  };
  // A gRPC client that failed to connect would wait a second before a retry.
  await waitOn(() => accepts(process.socket));
  const client = connectCri(process.socket, callDeadlineMs);
  try {
    await waitOn(() => isReady(client));
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/** The end of its log. */
export async function logEnd({ logFile }: Pick<ServerProcess, "logFile">): Promise<string> {
  return (await readFile(logFile, "utf8").catch(() => "")).slice(-3000);
}
