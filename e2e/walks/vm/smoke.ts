// The minimum that must work on a host: check, serve, an image, and a pod with its log, stats, metrics and removal.

import assert from "node:assert/strict";
import { until } from "../../fixtures/steps.ts";
import { at, type JsonValue } from "../crictl/crictl.ts";
import { metricsAddress, start } from "./keelson.ts";
import { busybox, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

/** Runs before every suite, on a disk with Keelson installed. */
export async function bringUp({ machine, crictl, step }: Omit<Scene, "add">): Promise<void> {
  await step("keelson serve answers", () => start(machine));
  await step("crictl info: runtime and network are ready", async () => {
    const conditions = at(await crictl.json("info"), "status", "conditions");
    assert(Array.isArray(conditions));
    for (const type of ["RuntimeReady", "NetworkReady"]) {
      const ready = conditions.some((each: JsonValue) => at(each, "type") === type && at(each, "status") === true);
      assert(ready, `not ${type}: ${JSON.stringify(conditions)}`);
    }
  });
  await step("an image is loaded", async () => {
    await machine.run("keelson image load /cargo/busybox");
    const images = at(await crictl.json("images", "--output", "json"), "images");
    assert.deepEqual(at(images, 0, "repoTags"), [busybox]);
  });
}

export async function smoke({ machine, crictl, step, print }: Scene): Promise<void> {
  await step("keelson check", async () => print(await machine.run("keelson check")));
  const pod = await step("a pod starts", () => runPod(machine, crictl, "smoke"));
  const script = "echo hello from $(hostname); ip -4 -o addr show eth0; trap 'exit 7' TERM; while :; do sleep 1; done";
  const container = await step("and a container in it", () =>
    runContainer(machine, crictl, pod, { name: "main", script }),
  );
  await step("its log", async () => {
    const text = await until("two lines", 30_000, async () => {
      const { stdout } = await crictl.attempt("logs", container);
      return stdout.split("\n").length > 2 ? stdout : undefined;
    });
    print(text.trimEnd());
    assert.match(text, /^hello from smoke\n.* inet 10\.97\.0\.\d+\/24 /);
  });
  await step("exec", async () => assert.equal(await crictl.run("exec", "-s", container, "cat", "/proc/1/comm"), "sh"));
  await step("stats", async () => {
    const stats = at(await crictl.json("stats", "--output", "json"), "stats", 0);
    assert(Number(at(stats, "memory", "workingSetBytes", "value")) > 0, JSON.stringify(stats));
    assert(Number(at(stats, "cpu", "usageCoreNanoSeconds", "value")) > 0, JSON.stringify(stats));
  });
  await step("metrics", async () => {
    const metrics = await machine.run(`busybox wget -q -O - http://${metricsAddress}/metrics`);
    const [ready] = metrics.match(/^keelson_sandboxes\{.*ready.*\} 1$/m) ?? [];
    assert(ready !== undefined, metrics.slice(0, 2000));
    print(`${metrics.split("\n").length} lines, among them ${ready}`);
  });
  await step("stop: the container's own exit code is reported", async () => {
    await crictl.run("stop", "--timeout", "20", container);
    assert.equal(at(await crictl.json("inspect", container), "status", "exitCode"), 7);
  });
  await step("the pod is stopped and removed, and nothing is left behind", async () => {
    await crictl.run("stopp", pod.id);
    await crictl.run("rmp", pod.id);
    assert.equal(await crictl.run("pods", "--quiet"), "");
    assert.equal(await machine.run(`find /sys/fs/cgroup -path '*${pod.id}*'; ls /run/keelson/pods`), "");
  });
}
