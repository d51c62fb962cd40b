// A container that blocks every process entering it does not slow down others in its pod. A measurement, so it
// runs alone.

import { setTimeout as delay } from "node:timers/promises";
import Long from "long";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { buildWatcher, cgroupOf, freeze, podWith, took } from "../fixtures/entering.ts";
import { type PodConfig, startNode, type TestNode } from "../fixtures/node.ts";

const { CONTAINER } = runtime.v1.NamespaceMode;

let node: TestNode;
let program: string;
beforeAll(async () => {
  node = await startNode();
  program = await buildWatcher(node);
}, 60_000);
afterAll(() => node.close());

interface Times {
  readonly execs: number[];
  readonly stops: number[];
}

/** Makes the container block entering processes, or releases them. */
type Hold = (holder: string, held: boolean) => Promise<void>;

const noTimes = (): Times => ({ execs: [], stops: [] });

function p95(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)] ?? 0;
}

describe("a container that blocks every process entering it", () => {
  /** Alternates between quiet and blocked, so that other load on the machine affects both. */
  const turns = 3;
  const roundsInTurn = 14;

  /** Measures execs in one container of the pod, and stops of others. */
  async function pace(times: Times, pod: PodConfig, podSandboxId: string, quiet: string, mark: string) {
    for (let round = 0; round < roundsInTurn; round += 1) {
      times.execs.push(await took(() => node.client.execSync({ containerId: quiet, cmd: ["true"] })));
      const name = `${mark}-${round}`;
      const containerId = await node.runContainer(pod, podSandboxId, name, "exec sleep 1000");
      times.stops.push(await took(() => node.client.stopContainer({ containerId, timeout: Long.ZERO })));
      await node.client.removeContainer({ containerId });
    }
  }

  /** Measures the same work with the holder quiet and blocking. */
  async function measure(pod: PodConfig, podSandboxId: string, quiet: string, name: string, hold: Hold) {
    const [before, during] = [noTimes(), noTimes()];
    for (let turn = 0; turn < turns; turn += 1) {
      const holder = await startHolder(pod, podSandboxId, `${name}-holder-${turn}`);
      await pace(before, pod, podSandboxId, quiet, `${name}-before-${turn}`);
      await hold(holder, true);
      const held = Array.from({ length: 16 }, () =>
        node.client.execSync({ containerId: holder, cmd: ["sleep", "1000"] }).catch((error: unknown) => error),
      );
      await delay(200);
      await pace(during, pod, podSandboxId, quiet, `${name}-during-${turn}`);
      await hold(holder, false);
      await node.client.stopContainer({ containerId: holder, timeout: Long.ZERO });
      for (const outcome of await Promise.all(held)) {
        if (!(outcome instanceof Error)) expect(outcome).toMatchObject({ exitCode: 137 });
      }
    }
    const slower = (of: keyof Times) => p95(during[of]) / p95(before[of]);
    return { execs: slower("execs"), stops: slower("stops") };
  }

  /** Measures up to three times: other load may slow down one side once, but a real effect shows every time. */
  async function expectPaceKept(name: string, hold: Hold) {
    const { podSandboxId, ids, pod } = await podWith(node, CONTAINER, name, "sleep 100000");
    const [quiet = ""] = ids;
    await pace(noTimes(), pod, podSandboxId, quiet, "warm");
    let slower = await measure(pod, podSandboxId, quiet, "first", hold);
    for (const again of ["second", "third"]) {
      if (Math.max(slower.execs, slower.stops) < 2) break;
      slower = await measure(pod, podSandboxId, quiet, again, hold);
    }
    await node.client.removePodSandbox({ podSandboxId });
    expect(slower.execs).toBeLessThan(2);
    expect(slower.stops).toBeLessThan(2);
  }

  /** Starts the holder, which sends SIGSTOP to entering processes; it takes the same CPU time if none enters. */
  async function startHolder(pod: PodConfig, podSandboxId: string, name: string): Promise<string> {
    const config = {
      metadata: { name, attempt: 0 },
      image: { image: node.image },
      command: ["/entry-watcher", "stop"],
      mounts: [{ hostPath: program, containerPath: "/entry-watcher", readonly: true }],
      linux: {},
    };
    const { containerId } = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await node.client.startContainer({ containerId });
    return containerId;
  }

  test("with SIGSTOP slows execs and stops in its pod by at most a factor of two at p95", async () => {
    await expectPaceKept("stopping", async () => undefined);
  });

  test("in a frozen cgroup slows execs and stops in its pod by at most a factor of two at p95", async () => {
    await expectPaceKept("freezing", async (holder, held) => await freeze(await cgroupOf(node, holder), held));
  });
});
