// Clock and disk space problems on a node: its clock an hour off, at boot and while it runs; a full disk at boot; a
// full /run.

import assert from "node:assert/strict";
import { answers, crictlOf } from "./keelson.ts";
import type { Node } from "./node.ts";
import { runContainer, runPod } from "./pods.ts";
import { checkPodStarts, checkPodsEnded } from "./power.ts";

const hourMs = 3_600_000;
const idle = "trap 'exit 0' TERM; while :; do sleep 1; done";

export async function hardships(node: Node): Promise<void> {
  for (const hours of [-1, 1]) {
    const words = hours < 0 ? "back" : "forward";
    await node.step(`the clock set ${words} by an hour under a running pod`, () => stepClock(node, hours));
    await node.step(`the clock ${words} by an hour after a boot`, async () => {
      await leaveOnePod(node, `clock-${words}`);
      const machine = await node.boot({ clock: new Date(Date.now() + hours * hourMs) });
      await checkPodsEnded(machine, 1);
    });
    await checkPodStarts(node);
  }
  await node.step("a full root disk at boot: the daemon answers, and knows its pods", async () => {
    await leaveOnePod(
      node,
      "full",
      "mkdir -p /var/log/pods/no-room; for size in 1M 512; do dd if=/dev/zero of=/full.$size bs=$size; done; sync",
    );
    const machine = await node.boot();
    node.print((await machine.run("df -k / | tail -1")).replaceAll(/ +/g, " "));
    const crictl = crictlOf(machine);
    assert.notEqual(await crictl.run("pods", "--quiet"), "");
    assert.match(await refusal(node, "no-room"), /no space left/);
    await machine.run("rm /full.*");
    // After a failed first ADD, which leaves the bridge without an address, Debian's bridge plugin fails once more
    // (containernetworking/plugins#1265). A kubelet would retry.
    await runPod(machine, crictl, "once-more").catch(() => undefined);
    await machine.run(
      "/cargo/bin/crictl pods --quiet --name once-more | xargs --no-run-if-empty /cargo/bin/crictl stopp",
    );
    await checkPodsEnded(machine);
  });
  await checkPodStarts(node);
  await node.step(
    "/run remounted with no free space: new pods fail with the reason, the running one keeps running",
    async () => {
      const { machine } = node;
      const crictl = crictlOf(machine);
      const pod = await runPod(machine, crictl, "early");
      const id = await runContainer(machine, crictl, pod, { name: "main", script: idle });
      await machine.run("mount -o remount,size=$(($(df -k --output=used /run | tail -1) + 64))k /run");
      await machine.attempt("dd if=/dev/zero of=/run/full bs=4k");
      assert.match(await refusal(node, "no-room-in-run"), /no space left/i);
      assert.equal(await crictl.run("exec", "-s", id, "echo", "here"), "here");
      await machine.run("systemctl restart keelson");
      await answers(machine);
      assert.equal(await crictl.run("exec", "-s", id, "echo", "still here"), "still here");
      await machine.run("rm -f /run/full && mount -o remount,size=600m /run");
      for (const each of (await crictl.run("pods", "--quiet")).split("\n")) {
        await crictl.run("stopp", each);
        await crictl.run("rmp", each);
      }
    },
  );
  await checkPodStarts(node);
}

async function stepClock({ machine }: Node, hours: number): Promise<void> {
  const crictl = crictlOf(machine);
  const pod = await runPod(machine, crictl, "clock");
  const id = await runContainer(machine, crictl, pod, { name: "main", script: idle });
  await machine.run(`date --set '${hours} hour'`);
  try {
    assert.equal(await crictl.run("exec", "-s", id, "echo", "here"), "here");
    await crictl.json("stats", "--output", "json");
    await crictl.run("stop", "--timeout", "10", id);
    const again = await runContainer(machine, crictl, pod, { name: "again", script: "echo in the log" });
    await crictl.run("logs", again);
    await crictl.run("stopp", pod.id);
    await crictl.run("rmp", pod.id);
    assert.equal(await crictl.run("pods", "--quiet"), "");
  } finally {
    await machine.run(`date --set '${-hours} hour'`);
  }
}

/** The error that a kubelet gets when it starts a pod. */
async function refusal({ machine, print }: Node, name: string): Promise<string> {
  const answer = await runPod(machine, crictlOf(machine), name).then(
    () => "it started",
    (error: unknown) => /rpc error: .*/.exec(String(error))?.[0] ?? String(error),
  );
  print(answer);
  return answer;
}

/** Starts a pod, runs `last` in the guest, and cuts the power while the pod is running. */
async function leaveOnePod({ machine }: Node, name: string, last = "sync"): Promise<void> {
  const crictl = crictlOf(machine);
  const pod = await runPod(machine, crictl, name);
  await runContainer(machine, crictl, pod, { name: "main", script: idle });
  await machine.attempt(last, 300);
  await machine.cut();
}
