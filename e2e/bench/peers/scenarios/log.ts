// The throughput of a container's log when it writes as fast as possible.

import { execFile } from "node:child_process";
import { mkdir, open, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { type Bench, timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { createContainer, planPod, removePod, runSandbox } from "../pods.ts";
import { percentile, samplesForRatio } from "../report/samples.ts";
import { takeTurns } from "../rotation.ts";
import type { Server } from "../servers/server.ts";

const lineLength = 100;
const lines = (200 * 2 ** 20) / lineLength;
const lastWords = "this is the last line";
const deadlineMs = 60_000;
/** cri-api's ContainerState.CONTAINER_EXITED. */
const exited = 2;

export async function log({ directory, servers, samples, rounds, note }: Bench): Promise<void> {
  const data = join(directory, "logs", "data");
  await mkdir(data);
  await writeFile(join(data, "lines"), linesToWrite());
  const stray = new Map<string, number[]>();
  await takeTurns(servers, Math.min(rounds, samplesForRatio), async (server, round, counts) => {
    const { seconds, cpu, found } = await logOnce(server, data, `log-${round}`);
    stray.set(server.name, [...(stray.get(server.name) ?? []), found - lines]);
    if (!counts) return;
    samples.add("log", server.name, (lines * lineLength) / 1e6 / seconds);
    samples.add("log-cpu", server.name, cpu);
  });
  await rm(data, { recursive: true });
  for (const [name, counts] of stray) {
    const usual = percentile(counts, 0.5);
    if (usual !== 0) note(`${name} usually wrote ${usual} more log lines than the container had`);
  }
}

async function logOnce(
  server: Server,
  data: string,
  name: string,
): Promise<{ seconds: number; cpu: number; found: number }> {
  const mounts = [{ containerPath: "/data", hostPath: data, readonly: false }];
  const command = ["sh", "-c", `cat /data/lines; touch /data/${name}`];
  const plan = await planPod(server, name, { command, mounts });
  const podSandboxId = await runSandbox(server, plan);
  const containerId = await createContainer(server, plan, podSandboxId);
  const file = join(plan.config.logDirectory, "main.log");
  const before = await cgroupCpu(server.cgroup);
  const [took] = await timed(async () => {
    await server.client.startContainer({ containerId });
    // The server gets no requests while it works.
    await until(async () => (await stat(join(data, name))).isFile());
    await until(async () => (await lastBytes(file)).includes(lastWords));
    await until(async () => (await server.client.containerStatus({ containerId })).status?.state === exited);
  });
  const cpu = (await settledCpu(server.cgroup)) - before;
  const { stdout } = await promisify(execFile)("wc", ["-l", file]);
  await removePod(server, { ...plan, podSandboxId, containerId });
  await rm(plan.config.logDirectory, { recursive: true });
  await rm(join(data, name));
  return { seconds: took / 1000, cpu, found: Number(stdout.split(" ")[0]) };
}

function linesToWrite(): Buffer {
  const text = Buffer.alloc(lines * lineLength, `${"keelson ".repeat(lineLength).slice(0, lineLength - 1)}\n`);
  text.write(lastWords, text.length - lineLength);
  return text;
}

async function lastBytes(file: string): Promise<string> {
  await using handle = await open(file);
  const { size } = await handle.stat();
  const buffer = Buffer.alloc(2 * lineLength);
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, Math.max(0, size - buffer.length));
  return buffer.toString("utf8", 0, bytesRead);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await holds().catch(() => false))) {
    if (performance.now() > end) throw new Error(`a log is not whole within ${deadlineMs} ms`);
    await delay(1);
  }
}
