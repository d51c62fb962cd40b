// A container server under measurement, whichever it is: what the scenarios need of it.

import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { accepts, type CriClient, connectCri } from "../../../fixtures/client.ts";
import type { ServerName } from "../report/samples.ts";

/** What each kind of server brings, started; `createServer` makes the rest of it. */
export interface ServerProcess {
  /** With those of the programs that it uses. */
  readonly versions: string;
  readonly socket: string;
  /** The name (proc(5) comm) of the processes that it keeps for pods or containers. */
  readonly helper: string;
  /** Of the running process. */
  readonly pid: number;
  /** Starts it again, after `kill`, and waits for nothing. */
  launch(): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  readonly logFile: string;
  readonly hasEnded: boolean;
}

export interface Server extends ServerProcess {
  readonly name: ServerName;
  /** A connection that lasts until the next start. */
  readonly client: CriClient;
  /** Its cgroup in every hierarchy: the server and all it spawns are in it, its pods' cgroups below it. */
  readonly cgroup: string;
  /** Where pods' logs go. */
  readonly logs: string;
  /** Resolves when it accepts connections and `isReady` says so of what it answers. */
  ready(isReady: (client: CriClient) => Promise<boolean>): Promise<void>;
}

const readyDeadlineMs = 60_000;
/** Short enough to be little of a recovery, long enough to leave the processor to it. */
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

/** A connection to a process that has just been started, once `isReady` says so of what it answers. */
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
  // A gRPC client that found nobody would wait a second before its next attempt.
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

/** What it logged last. */
export async function logEnd({ logFile }: Pick<ServerProcess, "logFile">): Promise<string> {
  return (await readFile(logFile, "utf8").catch(() => "")).slice(-3000);
}
