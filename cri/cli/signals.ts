// The daemon's signals. Only SIGTERM and SIGINT stop it (main.ts); cri/keelson starts Node so that SIGUSR1 opens no
// debugger.
//
// SIGHUP   reloads the configuration. The log level takes effect; other changed keys are logged and need a restart.
//          hosts.toml files are read at each pull and the CNI directory is watched: neither needs a signal.
// SIGUSR1  logs the work in progress (work-list.ts).
// SIGUSR2  has no effect.

import { firstLine, type Host } from "../../native/index.ts";
import type { LeveledLog } from "../log.ts";
import { type Config, changedKeys } from "./config.ts";
import type { ServiceManager } from "./service-manager.ts";
import type { WorkList } from "./work-list.ts";

export interface SignalParts {
  readonly host: Pick<Host, "unblockUsr1">;
  /** The configuration in force. */
  readonly config: Config;
  /** Reads it again from the same sources; rejects with a readable error. */
  readonly readConfig: () => Promise<Config>;
  readonly log: LeveledLog;
  readonly work: WorkList;
  readonly manager: Pick<ServiceManager, "reloading" | "reloaded">;
}

export function handleSignals({ host, config, readConfig, log, work, manager }: SignalParts): void {
  const reload = oneAtATime(async () => {
    await manager.reloading();
    await manager.reloaded(await reloadConfig(config, readConfig, log));
  });
  process.on("SIGHUP", reload);
  process.on("SIGUSR1", () => work.dump(log));
  host.unblockUsr1();
  process.on("SIGUSR2", () => log("info", "SIGUSR2 has no effect; SIGUSR1 logs the work in progress"));
}

/** An invalid configuration changes nothing. Returns the outcome as a message. */
async function reloadConfig(old: Config, readConfig: () => Promise<Config>, log: LeveledLog): Promise<string> {
  try {
    const read = await readConfig();
    const { logLevel } = read;
    log.setLevel(logLevel);
    const waiting = changedKeys({ ...old, logLevel }, read);
    log("info", "configuration reloaded", { logLevel, afterRestart: waiting });
    return waiting.length === 0 ? "Configuration reloaded" : `A restart is needed for ${waiting.join(", ")}`;
  } catch (error) {
    const reason = firstLine(error);
    log("error", "configuration not reloaded; the old one stays in force", { error: reason });
    return `Configuration not reloaded: ${reason}`;
  }
}

/** Calls made while it runs are coalesced into one more run after it. */
function oneAtATime(work: () => Promise<void>): () => void {
  let running = false;
  let again = false;
  const run = async (): Promise<void> => {
    running = true;
    do {
      again = false;
      await work();
    } while (again);
    running = false;
  };
  return () => {
    again = true;
    if (!running) run();
  };
}
