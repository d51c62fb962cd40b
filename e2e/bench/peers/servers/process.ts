// A peer's process: started by one command line, again after each kill.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type Service, startService } from "../../../fixtures/kubernetes/service.ts";
import type { ServerProcess } from "./server.ts";

export interface Recipe extends Pick<ServerProcess, "versions" | "socket" | "helper"> {
  readonly logFile: string;
  readonly command: readonly string[];
  /** A directory whose programs go before those of the PATH. */
  readonly programs: string;
}

/** It is started at once. */
export function serviceProcess({ versions, socket, helper, logFile, command, programs }: Recipe): ServerProcess {
  const start = () => startService(logFile, ["env", `PATH=${programs}:${process.env.PATH}`, ...command]);
  let service: Service = start();
  return {
    versions,
    socket,
    helper,
    get pid() {
      return service.pid;
    },
    launch: () => {
      service = start();
    },
    kill: () => service.kill(),
    logFile,
    get hasEnded() {
      return service.hasEnded;
    },
  };
}

/** The third word of "runc version 1.3.6+ds1" and its like. */
export async function versionOf(program: string): Promise<string> {
  const { stdout } = await promisify(execFile)(program, ["--version"], { timeout: 10_000 });
  return stdout.split("\n")[0]?.split(" ")[2] ?? "unknown";
}
