// Bare crun: create and start of a container, and execs into it, with a process for each, as for any server that uses
// crun.

import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { cgroupCpu } from "../cpu.ts";
import { type Cost, runMeasured } from "./floor.ts";

export interface CrunFloor {
  /** The CPU time includes the container's own in its cgroup. */
  start(): Promise<Cost>;
  exec(): Promise<Cost>;
  remove(): Promise<void>;
}

const id = "floor";
const deadlineMs = 30_000;

export async function createCrunFloor(
  directory: string,
  cgroup: string,
  floor: string,
  crun: string,
  root: string,
): Promise<CrunFloor> {
  await mkdir(directory);
  const execute = promisify(execFile);
  const command = [crun, "--root", join(directory, "state")];
  await execute(crun, ["spec"], { cwd: directory, timeout: deadlineMs });
  const specFile = join(directory, "config.json");
  const spec = JSON.parse(await readFile(specFile, "utf8"));
  const own = join(cgroup, "container");
  Object.assign(spec.root, { path: root, readonly: false });
  Object.assign(spec.process, { terminal: false, args: ["/bin/sleep", "3600"], capabilities: {}, rlimits: [] });
  Object.assign(spec.linux, { resources: {}, cgroupsPath: own });
  await writeFile(specFile, JSON.stringify(spec));
  return {
    async start() {
      const create = await runMeasured(floor, [...command, "create", "--bundle", directory, id]);
      const start = await runMeasured(floor, [...command, "start", id]);
      return { wall: create.wall + start.wall, cpu: create.cpu + start.cpu + (await cgroupCpu(own)) };
    },
    exec: () => runMeasured(floor, [...command, "exec", id, "/bin/true"]),
    remove: async () => {
      const [program = "", ...words] = [...command, "delete", "--force", id];
      await execute(program, words, { timeout: deadlineMs });
    },
  };
}
