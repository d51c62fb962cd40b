// Kills the daemon at every step of every request, before and after the step takes effect.

import { expect, test } from "vitest";
import type { NodePods } from "./pods.ts";
import { holdTime } from "./testing/clock.ts";
import { makeContainer, never, runContainer, runPod, useNode } from "./testing/node.ts";
import { expectRemovable, expectTidy, expectTrue } from "./testing/truth.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

type Verb = (pods: NodePods, sandboxId: string, containerId: string) => Promise<unknown>;
const stopSandbox: Verb = (pods, sandboxId) => pods.stopSandbox(sandboxId, never);
const removeSandbox: Verb = (pods, sandboxId) => pods.removeSandbox(sandboxId, never);
const verbs: readonly { readonly verb: string; readonly run: Verb; readonly steps: readonly string[] }[] = [
  { verb: "RunPodSandbox", run: (pods) => runPod(pods, "new"), steps: ["monitor spawn", "network attach"] },
  { verb: "StopPodSandbox", run: stopSandbox, steps: ["monitor stop", "network detach", "monitor shutdown"] },
  {
    verb: "RemovePodSandbox",
    run: removeSandbox,
    steps: ["monitor stop", "network detach", "monitor shutdown", "images removeSnapshot", "host removeTree"],
  },
  {
    verb: "CreateContainer",
    run: (pods, sandboxId) => makeContainer(pods, sandboxId, "new"),
    steps: ["images prepareSnapshot"],
  },
  {
    verb: "StartContainer",
    run: async (pods, sandboxId) => pods.startContainer(await makeContainer(pods, sandboxId, "new"), never),
    steps: ["monitor start"],
  },
  { verb: "StopContainer", run: (pods, _, c) => pods.stopContainer(c, 0n, never), steps: ["monitor stop"] },
  {
    verb: "RemoveContainer",
    run: (pods, _, c) => pods.removeContainer(c, never),
    steps: ["monitor stop", "monitor delete", "host removeTree", "images removeSnapshot"],
  },
];
const cases = verbs.flatMap(({ verb, run, steps }) =>
  steps.flatMap((step) =>
    [false, true].map((isDone) => ({ verb, run, step, isDone, when: isDone ? "after" : "before" })),
  ),
);

test.each(cases)(
  "$when $step of $verb: the reported state is true, the rest is finished, a retry succeeds",
  async ({ run, step, isDone }) => {
    const first = await node().start();
    const sandboxId = await runPod(first);
    const containerId = await runContainer(first, sandboxId);
    await runPod(first, "bystander");
    const held = node().script.hold(step);
    run(first, sandboxId, containerId).catch(() => undefined);
    await held.arrived;
    if (isDone) held.act();

    const pods = await node().restart();
    expectTrue(node(), pods);
    await pods.tidy();
    await expectTidy(node(), pods);
    await run(pods, sandboxId, containerId).catch((error: unknown) => {
      // The next daemon may have finished this step already, or stopped the pod.
      expect(error).toMatchObject({ code: expect.stringMatching(/^(NotFound|FailedPrecondition)$/) });
    });
    expectTrue(node(), pods);
    expect(
      pods.sandboxes({ ...everything, state: "ready" }).some(({ config }) => config.metadata.name === "bystander"),
    ).toBe(true);
    await expectRemovable(node(), pods);
  },
);
