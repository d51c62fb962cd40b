// How containers end: by exiting, by SIGTERM within the grace period, by SIGKILL after it, by an OOM kill.

import assert from "node:assert/strict";
import { type Scene, shell, statusOf } from "./scene.ts";

const untilTerm = (onTerm: string) => `trap '${onTerm}' TERM; echo up; while true; do sleep 3600 & wait $!; done`;

export async function endings(scene: Scene): Promise<void> {
  const { check } = scene;
  await Promise.all([
    check("exit codes and the termination message", async () => {
      await scene.create("exits", {
        restartPolicy: "Never",
        containers: [
          shell("good", "echo all is well > /dev/termination-log"),
          shell("bad", "echo its last line; exit 42", { terminationMessagePolicy: "FallbackToLogsOnError" }),
        ],
      });
      assert.equal(await scene.ended("exits"), "Failed");
      const pod = await scene.when("exits", "its status", (found) => found);
      const [good, bad] = ["good", "bad"].map((name) => statusOf(pod, name)?.state?.terminated);
      assert.deepEqual([good?.exitCode, good?.reason, good?.message], [0, "Completed", "all is well\n"]);
      assert.deepEqual([bad?.exitCode, bad?.reason, bad?.message], [42, "Error", "its last line\n"]);
    }),
    check("SIGTERM within the grace period", async () => {
      await scene.create("polite", {
        terminationGracePeriodSeconds: 30,
        containers: [shell("main", untilTerm("sleep 1; exit 5"))],
      });
      await scene.ready("polite");
      const began = performance.now();
      const [status] = await scene.remove("polite");
      assert.equal(status?.state?.terminated?.exitCode, 5);
      const seconds = (performance.now() - began) / 1000;
      assert.ok(seconds < 10, `removed after ${seconds.toFixed(1)} s`);
      scene.say(`a container that takes 1 s to exit is removed after ${seconds.toFixed(1)} s`);
    }),
    check("SIGKILL after the grace period", async () => {
      await scene.create("deaf", { containers: [shell("main", untilTerm("echo deaf"))] });
      await scene.ready("deaf");
      const began = performance.now();
      const [status] = await scene.remove("deaf", 2);
      assert.equal(status?.state?.terminated?.exitCode, 137);
      const seconds = (performance.now() - began) / 1000;
      assert.ok(seconds >= 2 && seconds < 12, `removed after ${seconds.toFixed(1)} s`);
      scene.say(`with a grace period of 2 s it is removed after ${seconds.toFixed(1)} s`);
    }),
    check("a custom stop signal", async () => {
      await scene.create("signal", {
        os: { name: "linux" },
        terminationGracePeriodSeconds: 20,
        containers: [
          shell("main", "trap 'exit 9' USR1; while true; do sleep 3600 & wait $!; done", {
            lifecycle: { stopSignal: "SIGUSR1" },
          }),
        ],
      });
      await scene.ready("signal");
      const [status] = await scene.remove("signal");
      assert.equal(status?.state?.terminated?.exitCode, 9);
    }),
    check("a missing command: its message has only the reason, and its log is empty", async () => {
      await scene.create("commandless", {
        restartPolicy: "Never",
        containers: [shell("main", "", { command: ["/no/such"], terminationMessagePolicy: "FallbackToLogsOnError" })],
      });
      assert.equal(await scene.ended("commandless"), "Failed");
      const pod = await scene.when("commandless", "its status", (found) => found);
      const ended = statusOf(pod, "main")?.state?.terminated;
      assert.equal(ended?.reason, "StartError");
      assert.match(ended?.message ?? "", /\/no\/such.*no such file or directory/i);
      assert.doesNotMatch(ended?.message ?? "", /reading termination message/);
      assert.equal(await scene.log("commandless"), "");
    }),
    check("an image whose registry is unreachable: RegistryUnavailable", async () => {
      await scene.create("far", { containers: [shell("main", "", { image: "127.0.0.1:1/far:1" })] });
      await scene.when("far", "the reason is reported", (pod) =>
        statusOf(pod, "main")?.state?.waiting?.reason === "RegistryUnavailable" ? true : undefined,
      );
      await scene.remove("far");
    }),
    check("too much memory: OOMKilled", async () => {
      await scene.create("greedy", {
        restartPolicy: "Never",
        containers: [shell("main", "head -c 200m /dev/zero | tail", { resources: { limits: { memory: "32Mi" } } })],
      });
      await scene.ended("greedy");
      const pod = await scene.when("greedy", "its status", (found) => found);
      assert.equal(statusOf(pod, "main")?.state?.terminated?.reason, "OOMKilled");
      assert.equal(statusOf(pod, "main")?.state?.terminated?.exitCode, 137);
    }),
  ]);
}
