// What the daemon does at signals. None but SIGTERM and SIGINT ends it (main.ts); cri/keelson starts Node so that
// SIGUSR1 opens no debugger.
//
// SIGHUP   reads the configuration again. The log's level takes effect; other changes are named and wait for a restart.
//          registries' hosts.toml are read at each pull and CNI's directory is watched: neither needs a signal.
// SIGUSR1  writes what is in hand into the log.
// SIGUSR2  has no meaning and no effect.

import { isDeepStrictEqual } from "node:util";
import { firstLine, type Host } from "../../native/index.ts";
import type { LeveledLog } from "../log.ts";
import type { Config } from "./config.ts";
import type { WorkList } from "./work-list.ts";

export interface SignalParts {
  readonly host: Pick<Host, "unblockUsr1">;
  /** The configuration in force. */
  readonly config: Config;
  /** Reads it again from where it came from; rejects with a sentence. */
  readonly readConfig: () => Promise<Config>;
  readonly log: LeveledLog;
  readonly work: WorkList;
}

export function handleSignals({ host, config, readConfig, log, work }: SignalParts): void {
  const reload = oneAtATime(async () => await reloadConfig(config, readConfig, log));
  process.on("SIGHUP", reload);
  process.on("SIGUSR1", () => work.dump(log));
  host.unblockUsr1();
  process.on("SIGUSR2", () => log("info", "SIGUSR2 has no meaning here; SIGUSR1 tells what is in hand"));
}

/** What is wrong leaves everything as it is. */
async function reloadConfig(old: Config, readConfig: () => Promise<Config>, log: LeveledLog): Promise<void> {
  try {
    const { logLevel, ...rest } = await readConfig();
    const { logLevel: _, ...before } = old;
    log.setLevel(logLevel);
    const waiting = Object.entries(rest).filter(([key, value]) => !isDeepStrictEqual(value, Reflect.get(before, key)));
    log("info", "configuration read again", { logLevel, afterRestart: waiting.map(([key]) => key) });
  } catch (error) {
    log("error", "the configuration was not read again; what was in force stays", { error: firstLine(error) });
  }
}

/** However often it is called meanwhile, once more after what runs is enough. */
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
