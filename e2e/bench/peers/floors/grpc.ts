// The cost of gRPC alone: calls to a process like the daemon, with grpc-js and nothing behind it.

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runtime } from "../../../../cri/api/generated/messages.js";
import type { CriClient } from "../../../fixtures/client.ts";
import { cgroupHierarchies, makeCgroup } from "../../../fixtures/kubernetes/sealed.ts";
import { startService } from "../../../fixtures/kubernetes/service.ts";
import { timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { megabytesAlone } from "../memory.ts";
import type { Pod } from "../pods.ts";
import { connectReady } from "../servers/server.ts";

/** Encoded responses by method of RuntimeService. */
export type Answers = Readonly<Record<string, Uint8Array>>;

export interface GrpcFloor {
  readonly client: CriClient;
  readonly cgroup: string;
  /** Milliseconds of each call of Version, and the CPU milliseconds per call. */
  calls(count: number): Promise<{ readonly wall: readonly number[]; readonly cpu: number }>;
  /** Milliseconds from SIGKILL, including the restart, to the first response. */
  restart(): Promise<number>;
  /** Its proportional set size, computed like the daemon's. */
  megabytes(): Promise<number>;
  stop(): Promise<void>;
}

const v1 = runtime.v1;
/** The same flags as in cri/keelson. */
const flags = ["--disable-sigusr1", "--max-semi-space-size=4", "--max-heap-size=512"];

export const versionOnly: Answers = {
  Version: v1.VersionResponse.encode({ version: "0.1.0", runtimeName: "floor", runtimeApiVersion: "v1" }).finish(),
};

/** Responses to the calls of a pod's lifecycle. */
export const podAnswers: Answers = {
  ...versionOnly,
  RunPodSandbox: v1.RunPodSandboxResponse.encode({ podSandboxId: "f".repeat(64) }).finish(),
  CreateContainer: v1.CreateContainerResponse.encode({ containerId: "f".repeat(64) }).finish(),
  ExecSync: v1.ExecSyncResponse.encode({ exitCode: 0 }).finish(),
  ...Object.fromEntries(
    ["StartContainer", "StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox"].map((method) => [
      method,
      new Uint8Array(),
    ]),
  ),
};

/** A server's responses to the calls that scenarios/rest.ts makes. */
export async function answersOf(client: CriClient, { containerId }: Pod): Promise<Answers> {
  return {
    Version: v1.VersionResponse.encode(await client.version({})).finish(),
    ListContainers: v1.ListContainersResponse.encode(await client.listContainers({})).finish(),
    ListPodSandbox: v1.ListPodSandboxResponse.encode(await client.listPodSandbox({})).finish(),
    ContainerStatus: v1.ContainerStatusResponse.encode(await client.containerStatus({ containerId })).finish(),
    ListContainerStats: v1.ListContainerStatsResponse.encode(await client.listContainerStats({})).finish(),
    ListPodSandboxStats: v1.ListPodSandboxStatsResponse.encode(await client.listPodSandboxStats({})).finish(),
  };
}

export async function startGrpcFloor(directory: string, parentCgroup: string, answers: Answers): Promise<GrpcFloor> {
  const [socket, answersFile] = [join(directory, "grpc-floor.sock"), join(directory, "grpc-floor.json")];
  const logFile = join(directory, "grpc-floor.log");
  const encoded = Object.entries(answers).map(([method, bytes]) => [method, Buffer.from(bytes).toString("base64")]);
  await writeFile(answersFile, JSON.stringify(Object.fromEntries(encoded)));
  const program = join(import.meta.dirname, "grpc-server.mjs");
  const launch = () => startService(logFile, [process.execPath, ...flags, program, socket, answersFile]);
  const isReady = async (fresh: CriClient) => (await fresh.version({})).runtimeApiVersion === "v1";
  let service = launch();
  // A getter, like a server's process: `service` changes with each restart.
  const floor = {
    socket,
    logFile,
    get hasEnded() {
      return service.hasEnded;
    },
  };
  const connect = async () => await connectReady("the gRPC floor", floor, isReady);
  const stop = async () => {
    await service.kill();
    await rm(socket, { force: true });
  };
  let client: CriClient;
  const cgroup = join(parentCgroup, "grpc-floor");
  try {
    client = await connect();
    await makeCgroup(cgroup);
    for (const hierarchy of await cgroupHierarchies())
      await writeFile(join(hierarchy, cgroup, "cgroup.procs"), String(service.pid));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    cgroup,
    get client() {
      return client;
    },
    calls: async (count) => {
      const before = await cgroupCpu(cgroup);
      const wall: number[] = [];
      while (wall.length < count) wall.push((await timed(() => client.version({})))[0]);
      return { wall, cpu: ((await settledCpu(cgroup)) - before) / count };
    },
    restart: async () => {
      client.close();
      const [took] = await timed(async () => {
        await stop();
        service = launch();
        client = await connect();
      });
      return took;
    },
    megabytes: () => megabytesAlone(service.pid),
    stop: async () => {
      client.close();
      await stop();
    },
  };
}
