// What gRPC alone costs: a process of the daemon's kind, with grpc-js and nothing behind it, and a call to it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runtime } from "../../../../cri/api/generated/messages.js";
import { connectCri } from "../../../fixtures/client.ts";
import { cgroupHierarchies, makeCgroup } from "../../../fixtures/kubernetes/sealed.ts";
import { timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { megabytesAlone } from "../memory.ts";

export interface GrpcFloor {
  /** Milliseconds of each call, and of the processors for one of them. */
  calls(count: number): Promise<{ readonly wall: readonly number[]; readonly cpu: number }>;
  /** Its proportional set size as the daemon's is counted. */
  megabytes(): Promise<number>;
  stop(): Promise<void>;
}

const deadlineMs = 20_000;
/** As cri/keelson starts the daemon. */
const flags = ["--disable-sigusr1", "--expose-gc", "--max-semi-space-size=1", "--max-heap-size=512"];

export async function startGrpcFloor(directory: string, parentCgroup: string): Promise<GrpcFloor> {
  const socket = join(directory, "grpc-floor.sock");
  const program = join(import.meta.dirname, "grpc-server.mjs");
  const answer = runtime.v1.VersionResponse.encode({ version: "0.1.0", runtimeName: "floor", runtimeApiVersion: "v1" });
  const hex = Buffer.from(answer.finish()).toString("hex");
  const server = spawn(process.execPath, [...flags, program, socket, hex], { stdio: ["ignore", "ignore", "inherit"] });
  const { pid = 0 } = server;
  const exited = once(server, "exit");
  const client = connectCri(socket, deadlineMs);
  const cgroup = join(parentCgroup, "grpc-floor");
  const stop = async () => {
    client.close();
    server.kill("SIGKILL");
    await exited;
  };
  try {
    const until = performance.now() + deadlineMs;
    while (
      await access(socket).then(
        () => false,
        () => true,
      )
    ) {
      if (performance.now() > until) throw new Error(`the gRPC floor did not listen within ${deadlineMs} ms`);
      await delay(20);
    }
    await client.version({});
    await makeCgroup(cgroup);
    for (const hierarchy of await cgroupHierarchies())
      await writeFile(join(hierarchy, cgroup, "cgroup.procs"), String(pid));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    calls: async (count) => {
      const before = await cgroupCpu(cgroup);
      const wall: number[] = [];
      while (wall.length < count) wall.push((await timed(() => client.version({})))[0]);
      return { wall, cpu: ((await settledCpu(cgroup)) - before) / count };
    },
    megabytes: () => megabytesAlone(pid),
    stop,
  };
}
