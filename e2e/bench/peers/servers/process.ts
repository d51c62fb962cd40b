// A peer's process: started by a command line, and restarted after each kill.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type Service, startService } from "../../../fixtures/kubernetes/service.ts";
import type { ServerProcess } from "./server.ts";

export interface Recipe extends Pick<ServerProcess, "versions" | "socket" | "helper"> {
  readonly logFile: string;
  readonly command: readonly string[];
  /** A directory of programs that is prepended to the PATH. */
  readonly programs: string;
}

/** Starts the process immediately. */
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

/** The third word of version output such as "runc version 1.3.6+ds1". */
export async function versionOf(program: string): Promise<string> {
  const { stdout } = await promisify(execFile)(program, ["--version"], { timeout: 10_000 });
  return stdout.split("\n")[0]?.split(" ")[2] ?? "unknown";
}
