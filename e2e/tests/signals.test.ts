// SIGUSR1 logs the work in progress, tested with work of every kind; and SIGTERM with a hanging file system.

import { readFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listenOnLoopback } from "../../image/testing/listen.ts";
import { dead } from "../fixtures/hindrances.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.close());

interface Line {
  readonly message: string;
  readonly kind?: string;
  readonly what?: string;
  readonly seconds?: number;
  readonly total?: number;
}

/** The lines of one dump. */
async function dump(): Promise<Line[]> {
  const before = (await readFile(node.daemon.logFile, "utf8")).length;
  process.kill(node.daemon.pid, "SIGUSR1");
  return await until("a dump in the log", 5_000, async () => {
    const text = (await readFile(node.daemon.logFile, "utf8")).slice(before);
    if (!text.includes('"work in progress"')) return undefined;
    const lines = text.trim().split("\n");
    return lines.map((line): Line => JSON.parse(line)).filter(({ message }) => message.endsWith("in progress"));
  });
}

test("SIGUSR1 logs which operation waits for which, and since when", async () => {
  const pod = node.podConfig("busy");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const containerId = await node.runContainer(pod, podSandboxId, "stubborn", "trap '' TERM; while :; do sleep 1; done");
  const silent = createServer((socket: Socket) => socket.on("error", () => undefined));
  const registry = `127.0.0.1:${await listenOnLoopback(silent)}`;

  // Ends when the container is removed, with whatever result the kill causes.
  const exec = node.client.execSync({ containerId, cmd: ["sleep", "3"] }).catch(() => "killed");
  const pull = node.client.pullImage({ image: { image: `${registry}/slow:1` } }, 8_000).catch(() => "given up");
  const remove = node.client.removeContainer({ containerId });
  const create = node.client.createContainer({
    podSandboxId,
    sandboxConfig: pod,
    config: { metadata: { name: "second" }, image: { image: node.image }, linux: {} },
  });
  const works = await until("the work in a dump", 10_000, async () => {
    const lines = await dump();
    return lines.filter(({ kind }) => kind === "turn").length === 2 ? lines : undefined;
  });
  const told = works.map(({ kind, what }) => `${kind}: ${what}`);
  for (const line of [
    `call: ExecSync ${containerId}`,
    `call: RemoveContainer ${containerId}`,
    `turn: removal of container ${containerId} of pod sandbox ${podSandboxId} is running`,
    `turn: creation of container second of pod sandbox ${podSandboxId} waits in the queue for: removal of container ${containerId}`,
    `pull: ${registry}/slow:1`,
  ])
    expect(told).toContain(line);
  expect(told.join("\n")).toMatch(
    new RegExp(`^monitor call: exec \\(container ${containerId}\\) at .*monitor.sock$`, "m"),
  );
  expect(works.every(({ message, seconds = -1 }) => message === "work in progress" || seconds >= 0)).toBe(true);

  await Promise.allSettled([exec, remove, create]);
  silent.close();
  expect(await pull).toBe("given up");
}, 60_000);

test("SIGTERM stops the daemon within 2 s while one of its threads waits for a dead file system", async () => {
  const pod = node.podConfig("dead");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const hostPath = join(node.directory, "dead");
  const lift = await dead(hostPath);
  try {
    const config = {
      metadata: { name: "c", attempt: 0 },
      image: { image: node.image },
      mounts: [{ hostPath: join(hostPath, "source"), containerPath: "/data" }],
      linux: {},
    };
    const create = node.client.createContainer({ podSandboxId, sandboxConfig: pod, config }, 1000);
    await expect(create).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    const begin = performance.now();
    await node.daemon.stop();
    expect(performance.now() - begin).toBeLessThan(2000);
  } finally {
    await lift();
    await node.daemon.start();
  }
});
