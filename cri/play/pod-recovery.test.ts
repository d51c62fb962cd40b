// Pods whose sandbox, containers or pods before them were lost or failed: what is run again, and what is removed.

import { describe, expect, test, vi } from "vitest";
import { container, holdTime, phases, start, turn } from "./testing/started-workload.ts";

vi.mock("node:fs/promises", async (importOriginal) =>
  (await import("./testing/fake-files.ts")).fakeFiles(importOriginal),
);

holdTime();

const exec = { command: ["x"] };

describe("a lost sandbox", () => {
  test("is stopped and removed before the next one; of a pod with OnFailure, only unfinished containers run again", async () => {
    const spec = { restartPolicy: "OnFailure", containers: ["done", "failing", "app"].map((name) => container(name)) };
    const fails = { exitAfterMs: 10, exitCode: 1 };
    const { server, run } = start(spec, { done: [{ exitAfterMs: 10 }], failing: [fails, fails, fails] });
    await turn(() => server.order.includes("start app") && server.times("start failing").length === 2);
    server.loseSandboxes();
    await turn(() => server.times("start app").length === 2 && server.times("start failing").length === 3);
    const after = server.order.slice(server.order.indexOf("stop sandbox"));
    expect(after.slice(0, 3)).toEqual(["stop sandbox", "remove sandbox", "sandbox"]);
    expect(server.times("start done")).toHaveLength(1);
    expect(server.sandboxes.size).toBe(1);
    run.end();
  });

  test("ends a pod that is never restarted as failed", async () => {
    const { server, run, isOver } = start({ restartPolicy: "Never", containers: [container("app")] }, {});
    await turn(() => server.order.includes("start app"));
    server.loseSandboxes();
    await turn(isOver, 60);
    expect(phases(run)).toEqual(["Failed SandboxLost"]);
    expect(server.times("sandbox")).toHaveLength(1);
  });
});

test("a restarted container replaces the dead one on the server", async () => {
  const { server, run } = start({ containers: [container("app")] }, { app: [{ exitAfterMs: 10, exitCode: 1 }, {}] });
  await turn(() => server.times("start app").length === 2);
  expect([...server.containers.values()].map(({ name }) => name)).toEqual(["app"]);
  run.end();
});

test("a container that runs although the answer to its start was lost is not started again", async () => {
  const { server, run, lines } = start({ containers: [container("app")] }, { app: [{ answerLost: true }] });
  await turn(() => lines.some((line) => line.includes("app: started")), 5);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.times("start app")).toHaveLength(1);
  run.end();
});

test("a container that cannot start has the exit code that the server gives it", async () => {
  const spec = { restartPolicy: "Never", containers: [container("app")] };
  const { run, isOver } = start(spec, { app: [{ startError: "no such file" }] });
  await turn(isOver, 5);
  expect([...run.pods].flatMap(({ workers }) => workers.map(({ exit }) => exit))).toMatchObject([
    { exitCode: 127, reason: "StartError: no such file" },
  ]);
});

test("a container that someone else removed counts as killed, and runs again under OnFailure", async () => {
  const spec = { restartPolicy: "OnFailure", containers: [container("app")] };
  const { server, run } = start(spec, {});
  await turn(() => server.order.includes("start app"));
  server.containers.clear();
  await turn(() => server.times("start app").length === 2, 60);
  expect([...run.pods].flatMap(({ workers }) => workers.map(({ exit }) => exit))).toMatchObject([
    { exitCode: 137, reason: "ContainerStatusUnknown" },
  ]);
  run.end();
});

test("a container that a liveness probe stopped runs again under OnFailure even if it exited with 0", async () => {
  const livenessProbe = { exec, periodSeconds: 1, failureThreshold: 1 };
  const spec = {
    restartPolicy: "OnFailure",
    terminationGracePeriodSeconds: 9,
    containers: [container("app", { livenessProbe })],
  };
  const { server, run } = start(spec, { app: [{ execExit: 1, stopExit: 0 }, {}] });
  await turn(() => server.times("start app").length === 2, 60);
  expect(server.order).toContain("stop app 9");
  run.end();
});

test("the second signal stops containers without a grace period", async () => {
  const { server, run, isOver } = start({ containers: [container("app")] }, { app: [{ stopMs: 20_000 }] });
  await turn(() => server.order.includes("start app"));
  run.end();
  await turn(() => server.order.includes("stop app 30"), 5);
  run.hurry();
  await turn(isOver, 25);
  expect(server.order).toContain("stop app 0");
});

test("sidecars stop in what is left of the grace period, at least 2 s, or without one after the second signal", async () => {
  const side = container("side", { restartPolicy: "Always" });
  for (const [stopMs, hurries, stop] of [
    [3000, false, "stop side 7"],
    [9500, false, "stop side 2"],
    [3000, true, "stop side 0"],
  ] as const) {
    const spec = { terminationGracePeriodSeconds: 10, initContainers: [side], containers: [container("app")] };
    const { server, run, isOver } = start(spec, { app: [{ stopMs }] });
    await turn(() => server.order.includes("start app"));
    run.end();
    await turn(() => server.order.includes("stop app 10"), 5);
    if (hurries) run.hurry();
    await turn(isOver, 25);
    expect(server.order.filter((call) => call.startsWith("stop side")).at(-1)).toBe(stop);
  }
});

test("only the pod's own sandboxes are removed, and it runs with its RuntimeClass", async () => {
  const { server, run, isOver } = start({ runtimeClassName: "kata", containers: [container("app")] }, {});
  const running = vi.spyOn(server.cri, "runPodSandbox");
  server.sandboxes.set("foreign", { ready: true, config: { labels: { "io.kubernetes.pod.uid": "another" } } });
  await turn(() => server.order.includes("start app"));
  expect(running.mock.calls[0]?.[0].runtimeHandler).toBe("kata");
  run.end();
  await turn(isOver);
  await run.remove();
  expect([...server.sandboxes.keys()]).toEqual(["foreign"]);
});

describe("a Job", () => {
  const spec = { restartPolicy: "Never", containers: [container("app")] };
  const fails = { exitAfterMs: 10, exitCode: 1 };

  test("removes each failed pod before the next, which starts at most 6 minutes later", async () => {
    const { server, run, isOver } = start(spec, { app: [fails] }, { kind: "Job", backoffLimit: 7 });
    await turn(isOver, 7200);
    const times = server.times("sandbox");
    const waits = times.slice(1).map((time, index) => Math.round((time - (times[index] ?? 0)) / 10) * 10);
    expect(waits).toEqual([10, 20, 40, 80, 160, 320, 360]);
    expect(server.times("remove sandbox")).toHaveLength(7);
    expect(run.pods.size).toBe(1);
  });

  test("fails when its activeDeadlineSeconds have passed", async () => {
    const more = { kind: "Job", activeDeadlineSeconds: 20 } as const;
    const { server, run, lines, isOver } = start(spec, {}, more);
    await turn(isOver, 60);
    expect(run.outcome).toBe("Failed");
    expect(server.times("stop app 30")[0]).toBeCloseTo(20, 0);
    expect(lines).toContain("Job default/p: Failed (DeadlineExceeded)");
  });

  test("whose pod is waiting for the next attempt fails at its deadline too", async () => {
    const more = { kind: "Job", activeDeadlineSeconds: 5, backoffLimit: 6 } as const;
    const { server, run, isOver } = start(spec, { app: [fails] }, more);
    await turn(isOver, 60);
    expect(run.outcome).toBe("Failed");
    expect(server.times("sandbox")).toHaveLength(1);
  });
});
