// `npm run e2e:streaming [ROUNDS] [MEBIBYTES]`: exec, attach and port-forward with the real crictl, over SPDY and WebSocket.

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { freePort } from "../image/testing/registry.ts";
import { startNode, type TestNode } from "./fixtures/node.ts";
import { createSteps, until } from "./fixtures/steps.ts";
import { criTool, toolsDirectory } from "./fixtures/tools.ts";

const [rounds = 2, mebibytes = 64] = process.argv.slice(2).map(Number);
const { step, thrown, conclude } = createSteps((line) => process.stdout.write(`${line}\n`));
const crictlBinary = await criTool("crictl", toolsDirectory(process.env));
if (crictlBinary.kind === "unavailable") process.stdout.write(`skipped: ${crictlBinary.reason}\n`);
else {
  await walk(crictlBinary.path).catch(thrown);
  process.exitCode = conclude() ? 0 : 1;
}

interface Outcome {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly milliseconds: number;
}

type Crictl = (words: readonly string[], input?: Iterable<Buffer>) => Promise<Outcome>;

async function walk(binary: string): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const node = await startNode();
  undo.defer(() => node.close());
  const pod = node.podConfig("streaming");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const script = "echo page > /tmp/index.html; httpd -p 8080 -h /tmp; while true; do echo tick; sleep 0.2; done";
  const id = await node.runContainer(pod, podSandboxId, "c", script);
  const crictl: Crictl = (words, input) =>
    run(binary, ["--runtime-endpoint", `unix://${node.daemon.socket}`, ...words], input);

  for (const transport of ["spdy", "websocket"]) {
    const exec = (flags: readonly string[], command: readonly string[], input?: Iterable<Buffer>) =>
      crictl(["exec", "--transport", transport, ...flags, id, ...command], input);
    await commands(transport, exec);
    await largeStreams(transport, exec, node);
    await attach(transport, binary, node, id);
    await forward(transport, binary, node, podSandboxId);
  }
  await step(
    "no session is left: as many descriptors and processes as before a hundred execs and cancelled attaches",
    () => leaksNothing(binary, node, id),
  );
}

type Exec = (flags: readonly string[], command: readonly string[], input?: Iterable<Buffer>) => Promise<Outcome>;

async function commands(transport: string, exec: Exec): Promise<void> {
  await step(`${transport}: both streams and the exit code`, async () => {
    const { status, stdout, stderr } = await exec([], ["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert.equal(stdout.toString(), "out\n");
    assert.match(stderr, /^err$/m);
    assert.match(stderr, /exit code 7/);
    assert.equal(status, 1);
  });
  await step(`${transport}: a program that is not there`, async () => {
    const { status, stderr } = await exec([], ["/no/such/program"]);
    assert.match(stderr, /\/no\/such\/program/);
    assert.equal(status, 1);
  });
  await step(`${transport}: a pipe's end reaches the process at once`, async () => {
    const { stdout, milliseconds } = await exec(["-i"], ["cat"], [Buffer.from("x\n")]);
    assert.equal(stdout.toString(), "x\n");
    assert.ok(milliseconds < 1000, `${milliseconds} ms`);
  });
  await step(`${transport}: a process that ends before its input does`, async () => {
    const { status, stdout } = await exec(["-i"], ["head", "-c", "3"], pieces(8 << 20));
    assert.deepEqual([status, stdout.length], [0, 3]);
  });
}

async function largeStreams(transport: string, exec: Exec, node: TestNode): Promise<void> {
  const size = mebibytes << 20;
  await step(`${transport}: ${rounds} × ${mebibytes} MiB in, byte for byte`, async () => {
    for (let round = 0; round < rounds; round += 1) {
      const hash = createHash("sha256");
      const input = [...pieces(size)];
      for (const piece of input) hash.update(piece);
      const { stdout } = await exec(["-i"], ["sha256sum"], input);
      assert.equal(stdout.toString().split(" ")[0], hash.digest("hex"), `round ${round}`);
    }
  });
  await step(`${transport}: ${rounds} × ${mebibytes} MiB out, byte for byte`, async () => {
    for (let round = 0; round < rounds; round += 1) {
      const { stdout } = await exec([], ["head", "-c", String(size), "/dev/zero"]);
      assert.equal(stdout.length, size);
      assert.ok(stdout.equals(Buffer.alloc(size)), `round ${round}`);
    }
  });
  await step(`${transport}: the daemon stayed below 300 MB`, async () => {
    const peak = Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${node.daemon.pid}/status`, "utf8"))?.[1]) / 1000;
    process.stdout.write(`      peak RSS of the daemon: ${Math.round(peak)} MB\n`);
    assert.ok(peak < 300, `${peak} MB`);
  });
}

async function attach(transport: string, binary: string, node: TestNode, id: string): Promise<void> {
  await step(`${transport}: three attached at once; leaving kills nothing`, async () => {
    const words = ["--runtime-endpoint", `unix://${node.daemon.socket}`, "attach", "--transport", transport, id];
    const attached = Array.from({ length: 3 }, () => spawn(binary, words, { stdio: ["ignore", "pipe", "ignore"] }));
    try {
      await Promise.all(attached.map((child) => output(child, /tick\n.*tick\n/s)));
    } finally {
      await Promise.all(attached.map(ended));
    }
    const { status } = await node.client.containerStatus({ containerId: id });
    assert.equal(status?.state, 1);
  });
}

async function forward(transport: string, binary: string, node: TestNode, podSandboxId: string): Promise<void> {
  const port = await freePort();
  const words = [
    "--runtime-endpoint",
    `unix://${node.daemon.socket}`,
    "port-forward",
    "--transport",
    transport,
    podSandboxId,
    `${port}:8080`,
  ];
  const child = spawn(binary, words, { stdio: ["ignore", "pipe", "ignore"] });
  try {
    await output(child, /Forwarding from/);
    await step(`${transport}: a port leads into the pod, connection by connection`, async () => {
      for (let round = 0; round < 5; round += 1) assert.match(await page(port), /200 OK.*page\n$/s);
    });
    await step(`${transport}: an idle connection stalls no other`, async () => {
      const idle = connect(port, "127.0.0.1");
      await once(idle, "connect");
      idle.pause();
      const both = await Promise.all([page(port), page(port)]);
      for (const answer of both) assert.match(answer, /page\n$/);
      idle.destroy();
    });
  } finally {
    await ended(child);
  }
}

async function leaksNothing(binary: string, node: TestNode, id: string): Promise<void> {
  const pid = node.daemon.pid;
  const descriptors = async () => (await promisify(execFile)("ls", [`/proc/${pid}/fd`])).stdout.split("\n").length;
  const processes = async () => {
    const { stdout } = await node.client.execSync({ containerId: id, cmd: ["ps"] });
    return Buffer.from(stdout)
      .toString()
      .split("\n")
      .filter((line) => !/sleep|ps$/.test(line)).length;
  };
  const before = [await descriptors(), await processes()];
  const words = ["--runtime-endpoint", `unix://${node.daemon.socket}`];
  for (let round = 0; round < 50; round += 1) {
    await run(binary, [...words, "exec", id, "true"]);
    const child = spawn(binary, [...words, "attach", id], { stdio: ["ignore", "pipe", "ignore"] });
    await output(child, /tick/);
    await ended(child);
  }
  await until("descriptors and processes are as before", 5000, async () => {
    const after = [await descriptors(), await processes()];
    return after.every((count, index) => count <= (before[index] ?? 0) + 1) ? true : undefined;
  });
}

async function run(binary: string, words: readonly string[], input: Iterable<Buffer> = []): Promise<Outcome> {
  const began = performance.now();
  const child = spawn(binary, words, { stdio: ["pipe", "pipe", "pipe"], timeout: 120_000 });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on("data", (bytes: Buffer) => stdout.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => stderr.push(bytes));
  child.stdin.on("error", () => undefined);
  const closed = once(child, "close");
  for (const piece of input) {
    if (child.stdin.destroyed || child.exitCode !== null) break;
    if (!child.stdin.write(piece)) await Promise.race([once(child.stdin, "drain").catch(() => undefined), closed]);
  }
  child.stdin.end();
  await closed;
  return {
    status: child.exitCode,
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr).toString(),
    milliseconds: performance.now() - began,
  };
}

/** Random bytes of that size in all; the same block again and again would hide a piece lost or doubled. */
function* pieces(size: number): Generator<Buffer> {
  for (let made = 0; made < size; made += 1 << 20) yield randomBytes(Math.min(1 << 20, size - made));
}

async function output(child: ChildProcess, wanted: RegExp): Promise<void> {
  let text = "";
  child.stdout?.on("data", (bytes: Buffer) => {
    text = (text + bytes.toString()).slice(-4096);
  });
  await until(`crictl prints ${wanted}`, 10_000, async () => (wanted.test(text) ? true : undefined));
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "exit");
  child.kill("SIGKILL");
  await closed;
}

async function page(port: number): Promise<string> {
  const socket: Socket = connect(port, "127.0.0.1");
  socket.setTimeout(10_000, () => socket.destroy(new Error("no answer within 10 s")));
  socket.end("GET / HTTP/1.0\r\n\r\n");
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part);
  return Buffer.concat(parts).toString();
}
