// Keelson as the built package, dist/, which is what users run.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { startDaemon } from "../../../fixtures/daemon.ts";
import { writeHosts } from "../images.ts";
import type { Place } from "./place.ts";
import type { ServerProcess } from "./server.ts";

const repository = join(import.meta.dirname, "../../../..");
export const builtPackage = join(repository, "dist");

/** Starts the daemon immediately. */
export async function keelsonProcess(place: Place, pluginDirectory: string): Promise<ServerProcess> {
  const directory = join(place.directory, "keelson");
  await mkdir(directory);
  const daemon = await startDaemon({
    directory,
    runDirectory: join(place.run, "keelson"),
    network: place.network,
    pluginDirectories: [pluginDirectory],
    cgroupRoot: join(place.cgroup, "other"),
    enter: place.enter,
    command: join(builtPackage, "cri/keelson"),
  });
  await writeHosts(join(directory, "registries"));
  return {
    versions: await versions(),
    socket: daemon.socket,
    helper: "keelson-monitor",
    get pid() {
      return daemon.pid;
    },
    launch: () => daemon.launch(),
    kill: () => daemon.kill(),
    logFile: daemon.logFile,
    // An exit is detected by the deadlines of its callers.
    hasEnded: false,
  };
}

/** Includes the commit, because all builds between two releases have the same version. */
async function versions(): Promise<string> {
  const describe = promisify(execFile)("git", ["-C", repository, "describe", "--always", "--dirty"]);
  const commit = await describe.then(
    ({ stdout }) => stdout.trim(),
    () => "outside of git",
  );
  return `Keelson ${commit}, Node.js ${process.version.slice(1)}`;
}
