// ExecSync with large output: how much memory many concurrent calls take in the daemon, and when it is released.

import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { anonymousKilobytes } from "../fixtures/processes.ts";

const mebibyte = 1 << 20;

let node: TestNode;
let containerId: string;
beforeAll(async () => {
  node = await startNode();
  const pod = node.podConfig("loud");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  containerId = await node.runContainer(pod, podSandboxId, "loud", "trap 'exit 0' TERM; sleep 1000 & wait");
});
afterAll(() => node.close());

/** Anonymous memory of the daemon, in bytes. */
async function held(): Promise<number> {
  return (await anonymousKilobytes(node.daemon.pid)) * 1024;
}

/** The memory once it is below the limit, or after 5 s. */
async function settled(below: number): Promise<number> {
  const end = performance.now() + 5_000;
  for (;;) {
    const bytes = await held();
    if (bytes < below || performance.now() > end) return bytes;
    await delay(50);
  }
}

/** An exec with more output than an answer may have. */
const loud = () =>
  node.client.execSync({ containerId, cmd: ["dd", "if=/dev/zero", "bs=64k", "count=320", "status=none"] });

test("24 concurrent large outputs stay within a budget, and their memory is released within seconds", async () => {
  const before = await held();
  let peak = before;
  const sampler = setInterval(async () => {
    peak = Math.max(peak, await held());
  }, 20);
  const answers = await Promise.allSettled(Array.from({ length: 24 }, loud));
  clearInterval(sampler);
  const whole = answers.filter((answer) => answer.status === "fulfilled" && answer.value.stdout.length > 15 * mebibyte);
  const after = await settled(before + 64 * mebibyte);
  const shown = [before, peak, after].map((bytes) => `${Math.round(bytes / mebibyte)} MiB`);
  // On a busy machine an output may have to wait longer than the limit of 10 s.
  const refused = answers.filter((answer) => answer.status === "rejected").map(({ reason }) => String(reason.details));
  for (const sentence of refused) expect(sentence).toContain("the budget for output had no room for 10 s");
  expect(whole.length + refused.length).toBe(24);
  expect(whole.length).toBeGreaterThanOrEqual(3);
  // Without a budget it grew by 800 MiB, of which 780 were never released.
  expect(peak - before).toBeLessThan(400 * mebibyte);
  expect(after - before).toBeLessThan(64 * mebibyte);
  console.log(`24 outputs of 16 MiB, ${whole.length} complete: memory before, peak and after: ${shown.join(", ")}`);
}, 120_000);

test("a large output that waits too long for memory fails with the reason, while small ones are answered", async () => {
  const held = Array.from({ length: 3 }, (_, index) => {
    const script = `head -c ${mebibyte} /dev/zero; touch /held-${index}; until [ -e /go-on ]; do sleep 0.05; done`;
    return node.client.execSync({ containerId, cmd: ["sh", "-c", script] });
  });
  const areHeld = ["ls", "/held-0", "/held-1", "/held-2"];
  await expect.poll(async () => (await node.client.execSync({ containerId, cmd: areHeld })).exitCode).toBe(0);
  // Their output is on its way to the daemon.
  await delay(1_000);
  const refused = loud().catch((error: unknown) => error);
  await delay(500);
  const started = performance.now();
  const small = await node.client.execSync({ containerId, cmd: ["echo", "here"] });
  expect(small.stdout.toString()).toBe("here\n");
  expect(performance.now() - started, "small outputs do not wait for large ones").toBeLessThan(2_000);
  expect(await refused).toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
    details: expect.stringContaining("was killed: the budget for output had no room for 10 s"),
  });
  await node.client.execSync({ containerId, cmd: ["touch", "/go-on"] });
  for (const { stdout } of await Promise.all(held)) expect(stdout.length).toBe(mebibyte);
  expect((await loud()).stdout.length).toBeGreaterThan(15 * mebibyte);
}, 60_000);

test("a large output whose client disconnected frees its memory", async () => {
  for (let n = 0; n < 4; n += 1) {
    const gone = node.client.execSync(
      { containerId, cmd: ["sh", "-c", `head -c ${mebibyte} /dev/zero; sleep 60`] },
      500,
    );
    await expect(gone).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
  }
  expect((await loud()).stdout.length).toBeGreaterThan(15 * mebibyte);
}, 60_000);
