// Sessions that clients abandon: after hundreds of them, the daemon and the monitor hold the same resources as before.

import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { TestNode } from "../../fixtures/node.ts";
import {
  descendants,
  descriptors,
  monitorPids,
  proportionalKilobytes,
  residentKilobytes,
  terminals,
} from "../../fixtures/processes.ts";
import { type Steps, until } from "../../fixtures/steps.ts";
import { type Crictl, killAndWait, type Transport, waitForOutput } from "./crictl.ts";

interface Held {
  readonly descriptors: readonly [daemon: number, monitor: number];
  /** The monitor's descendants: containers' processes and execs. */
  readonly processes: number;
  readonly terminals: number;
}

export interface Containers {
  readonly sandbox: string;
  readonly plain: string;
  readonly tty: string;
}

/**
 * Abandons `rounds` attaches, half over each transport and half with a terminal, and a tenth as many execs and
 * forwards.
 */
export async function cancel({ step }: Steps, crictl: Crictl, node: TestNode, rounds: number, containers: Containers) {
  const [monitor = 0] = await monitorPids(node.directory);
  const held = async (): Promise<Held> => ({
    descriptors: [await descriptors(node.daemon.pid), await descriptors(monitor)],
    processes: (await descendants(monitor)).length,
    terminals: await terminals(),
  });
  const memory = async () =>
    `daemon ${await residentKilobytes(node.daemon.pid)} kB RSS, monitor ${await proportionalKilobytes(monitor)} kB PSS`;
  // Wait out the containers' own `sleep` processes.
  const settled = () => until("sleeps", 5000, async () => await held());

  await abandon(crictl, containers, 8);
  await delay(500);
  const [before, monitorBefore] = [await settled(), await proportionalKilobytes(monitor)];
  process.stdout.write(`      before: ${JSON.stringify(before)}, ${await memory()}\n`);
  await step(
    `${rounds} attaches and ${rounds / 10} execs and port-forwards each are abandoned; nothing leaks`,
    async () => {
      await abandon(crictl, containers, rounds);
      let after = await held();
      await until("everything is as before", 10_000, async () => {
        after = await held();
        return after.processes <= before.processes &&
          after.terminals <= before.terminals &&
          after.descriptors.every((count, index) => count <= (before.descriptors[index] ?? 0))
          ? true
          : undefined;
      }).catch(() => assert.deepEqual(after, before));
      process.stdout.write(`      after:  ${JSON.stringify(after)}, ${await memory()}\n`);
      const growth = (await proportionalKilobytes(monitor)) - monitorBefore;
      assert.ok(growth < 256, `the monitor grew by ${growth} kB`);
    },
  );
}

async function abandon(crictl: Crictl, { sandbox, plain, tty }: Containers, rounds: number): Promise<void> {
  const transports: readonly Transport[] = ["spdy", "websocket"];
  const one = async (round: number): Promise<void> => {
    const transport = transports[round % 2] ?? "spdy";
    const start = (words: readonly string[], ...command: readonly string[]) =>
      round % 4 < 2
        ? crictl.start([...words, "--transport", transport, "-i", plain, ...command], "pipe")
        : crictl.startOnTerminal([...words, "--transport", transport, "-i", "-t", tty, ...command]);
    const attached = start(["attach"]);
    await waitForOutput(attached, /tick/).finally(() => killAndWait(attached));
    if (round % 10 !== 0) return;
    const executed = start(["exec"], "sh", "-c", "echo begun; sleep 1000");
    await waitForOutput(executed, /begun/).finally(() => killAndWait(executed));
    const forwarded = crictl.start(["port-forward", "--transport", transport, sandbox, "0:8080"]);
    await waitForOutput(forwarded, /Forwarding/).finally(() => killAndWait(forwarded));
  };
  // Four at a time.
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let round = next++; round < rounds; round = next++) await one(round);
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
}
