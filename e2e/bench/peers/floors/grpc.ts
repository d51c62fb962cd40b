// What gRPC alone costs: a process of the daemon's kind, with grpc-js and nothing behind it, and a call to it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runtime } from "../../../../cri/api/generated/messages.js";
import { connectCri } from "../../../fixtures/client.ts";
import { timed } from "../bench.ts";
import { megabytesAlone } from "../memory.ts";

export interface GrpcFloor {
  /** Milliseconds of one call. */
  call(): Promise<number>;
  /** Its proportional set size as the daemon's is counted. */
  megabytes(): Promise<number>;
  stop(): Promise<void>;
}

const deadlineMs = 20_000;
/** As cri/keelson starts the daemon. */
const flags = ["--disable-sigusr1", "--expose-gc", "--max-semi-space-size=1", "--max-heap-size=512"];

export async function startGrpcFloor(directory: string): Promise<GrpcFloor> {
  const socket = join(directory, "grpc-floor.sock");
  const program = join(import.meta.dirname, "grpc-server.mjs");
  const answer = runtime.v1.VersionResponse.encode({ version: "0.1.0", runtimeName: "floor", runtimeApiVersion: "v1" });
  const hex = Buffer.from(answer.finish()).toString("hex");
  const server = spawn(process.execPath, [...flags, program, socket, hex], { stdio: ["ignore", "ignore", "inherit"] });
  const { pid = 0 } = server;
  const exited = once(server, "exit");
  const client = connectCri(socket, deadlineMs);
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
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    call: async () => (await timed(() => client.version({})))[0],
    megabytes: () => megabytesAlone(pid),
    stop,
  };
}
