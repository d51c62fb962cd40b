// `npm run e2e:streaming -- [ROUNDS] [MEBIBYTES] [CANCELS]`: exec, attach and port-forward with the real crictl, over
// SPDY and WebSocket: ROUNDS streams of MEBIBYTES each way, and CANCELS sessions that their client abandons.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { startNode, type TestNode } from "../../fixtures/node.ts";
import { descendants, monitorPids, peakKilobytes, proportionalKilobytes } from "../../fixtures/processes.ts";
import { createSteps, until } from "../../fixtures/steps.ts";
import { criTool, toolsDirectory } from "../../fixtures/tools.ts";
import { cancel } from "./cancel.ts";
import { type Crictl, killAndWait, type Outcome, streamingCrictl, type Transport, waitForOutput } from "./crictl.ts";
import { type Big, forward, servers } from "./forward.ts";

const [rounds = 2, mebibytes = 64, cancels = 40] = process.argv.slice(2).map(Number);
const steps = createSteps((line) => process.stdout.write(`${line}\n`));
const { step } = steps;
const tool = await criTool("crictl", toolsDirectory(process.env));
if (tool.kind === "unavailable") process.stdout.write(`skipped: ${tool.reason}\n`);
else {
  await walk(tool.path).catch(steps.thrown);
  process.exitCode = steps.conclude() ? 0 : 1;
}

type Exec = (flags: readonly string[], command: readonly string[], input?: Iterable<Buffer>) => Promise<Outcome>;

async function walk(binary: string): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const node = await startNode();
  undo.defer(() => node.close());
  const pod = node.podConfig("streaming");
  const { podSandboxId: sandbox } = await node.client.runPodSandbox({ config: pod });
  const plain = await node.runContainer(pod, sandbox, "plain", servers, { stdin: true });
  const ticks = "while true; do echo tick; sleep 0.2; done";
  const tty = await node.runContainer(pod, sandbox, "tty", ticks, { stdin: true, tty: true });
  const crictl = streamingCrictl(binary, node.daemon.socket);

  for (const transport of ["spdy", "websocket"] as const) {
    const exec: Exec = (flags, command, input) =>
      crictl.run(["exec", "--transport", transport, ...flags, plain, ...command], input);
    await commands(transport, exec);
    const big = await largeStreams(transport, exec, node);
    await attach(transport, crictl, node, plain);
    await attachToEnd(transport, crictl, (name, script, input) => node.runContainer(pod, sandbox, name, script, input));
    await forward(steps, crictl, transport, sandbox, big);
    await unreadClient(transport, crictl, node, plain);
  }
  await memory(node);
  await cancel(steps, crictl, node, cancels, { sandbox, plain, tty });
}

async function commands(transport: Transport, exec: Exec): Promise<void> {
  await step(`${transport}: exec returns both streams and the exit code`, async () => {
    const { status, stdout, stderr } = await exec([], ["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert.equal(stdout.toString(), "out\n");
    assert.match(stderr, /^err$/m);
    assert.match(stderr, /exit code 7/);
    assert.equal(status, 1);
  });
  await step(`${transport}: exec of a missing program`, async () => {
    const { status, stderr } = await exec([], ["/no/such/program"]);
    assert.match(stderr, /\/no\/such\/program/);
    assert.equal(status, 1);
  });
  await step(`${transport}: the end of input reaches the process at once`, async () => {
    const { stdout, milliseconds } = await exec(["-i"], ["cat"], [Buffer.from("x\n")]);
    assert.equal(stdout.toString(), "x\n");
    assert.ok(milliseconds < 1000, `${milliseconds} ms`);
  });
  await step(`${transport}: a process that exits before the end of its input`, async () => {
    const { status, size } = await exec(["-i"], ["head", "-c", "3"], pieces(8 << 20));
    assert.deepEqual([status, size], [0, 3]);
  });
}

/** The last input stays in the container as /tmp/big. */
async function largeStreams(transport: Transport, exec: Exec, node: TestNode): Promise<Big> {
  const size = mebibytes << 20;
  let sha256 = "";
  await step(`${transport}: ${rounds} × ${mebibytes} MiB in, byte for byte`, async () => {
    for (let round = 0; round < rounds; round += 1) {
      const hash = createHash("sha256");
      const { stdout } = await exec(["-i"], ["sh", "-c", "tee /tmp/big | sha256sum"], hashed(pieces(size), hash));
      sha256 = hash.digest("hex");
      assert.equal(stdout.toString().split(" ")[0], sha256, `round ${round}`);
    }
  });
  await step(`${transport}: ${rounds} × ${mebibytes} MiB out, byte for byte`, async () => {
    for (let round = 0; round < rounds; round += 1) {
      const outcome = await exec([], ["cat", "/tmp/big"]);
      assert.deepEqual([outcome.size, outcome.sha256], [size, sha256], `round ${round}`);
    }
  });
  await memory(node);
  return { size, sha256 };
}

async function memory(node: TestNode): Promise<void> {
  await step("memory stayed bounded: the daemon below 300 MB, the monitor below 4 MB", async () => {
    const [monitor = 0] = await monitorPids(node.directory);
    const [daemonPeak, monitorPeak] = [await peakKilobytes(node.daemon.pid), await peakKilobytes(monitor)];
    const now = await proportionalKilobytes(monitor);
    process.stdout.write(`      peak RSS: daemon ${daemonPeak} kB, monitor ${monitorPeak} kB (PSS now ${now} kB)\n`);
    assert.ok(daemonPeak < 300_000 && monitorPeak < 4000, `${daemonPeak} kB, ${monitorPeak} kB`);
  });
}

async function attach(transport: Transport, crictl: Crictl, node: TestNode, id: string): Promise<void> {
  await step(`${transport}: three clients attach at once; detaching kills nothing`, async () => {
    const attached = Array.from({ length: 3 }, () => crictl.start(["attach", "--transport", transport, id]));
    try {
      await Promise.all(attached.map((child) => waitForOutput(child, /tick\n.*tick\n/s)));
    } finally {
      await Promise.all(attached.map(killAndWait));
    }
    const { status } = await node.client.containerStatus({ containerId: id });
    assert.equal(status?.state, 1);
  });
}

async function attachToEnd(
  transport: Transport,
  crictl: Crictl,
  runContainer: (name: string, script: string, input: { readonly stdin: boolean }) => Promise<string>,
): Promise<void> {
  const typed = [Buffer.from("typed\n")];
  const attached = (id: string) => crictl.run(["attach", "-i", "--transport", transport, id], typed);
  await step(`${transport}: an attach succeeds even if the container exits with an error`, async () => {
    const id = await runContainer(`fails-${transport}`, "read x; echo got $x; exit 3", { stdin: true });
    const { status, stdout, stderr } = await attached(id);
    assert.equal(stdout.toString(), "got typed\n");
    assert.equal(status, 0, stderr);
  });
  await step(
    `${transport}: an attach ends with the client's input, while the container's stdin stays open`,
    async () => {
      const id = await runContainer(`reads-${transport}`, "while read x; do echo got $x; done", { stdin: true });
      for (let round = 0; round < 2; round += 1) {
        const { status, stdout, milliseconds } = await attached(id);
        assert.deepEqual([status, stdout.toString()], [0, "got typed\n"]);
        assert.ok(milliseconds < 5_000, `${milliseconds} ms`);
      }
    },
  );
}

/** The daemon has stopped reading when the client disconnects, so only a write can detect it. */
async function unreadClient(transport: Transport, crictl: Crictl, node: TestNode, id: string): Promise<void> {
  await step(
    `${transport}: if a client disconnects while its input is not being read, its process is killed`,
    async () => {
      const [monitor = 0] = await monitorPids(node.directory);
      const before = new Set(await descendants(monitor));
      const child = crictl.start(
        ["exec", "-i", "--transport", transport, id, "sh", "-c", "echo begun; exec sleep 77"],
        "pipe",
      );
      child.stdin?.on("error", () => undefined);
      await waitForOutput(child, /begun/);
      child.stdin?.write(Buffer.alloc(32 << 20));
      await delay(1000);
      const own = (await descendants(monitor)).filter((pid) => !before.has(pid));
      await killAndWait(child);
      await until("the process is killed", 20_000, async () => {
        const left = new Set(await descendants(monitor));
        return own.every((pid) => !left.has(pid)) ? true : undefined;
      });
    },
  );
}

/** Random bytes, `size` in total; a repeated block would hide a lost or duplicated piece. */
function* pieces(size: number): Generator<Buffer> {
  for (let made = 0; made < size; made += 1 << 20) yield randomBytes(Math.min(1 << 20, size - made));
}

function* hashed(input: Iterable<Buffer>, hash: ReturnType<typeof createHash>): Generator<Buffer> {
  for (const piece of input) {
    hash.update(piece);
    yield piece;
  }
}
