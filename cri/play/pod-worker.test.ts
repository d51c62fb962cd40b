// Lifecycles of pods on a scripted CRI server, with a clock controlled by the tests.

import { describe, expect, test, vi } from "vitest";
import type { Act } from "./testing/scripted-cri.ts";
import { container, holdTime, phases, start, turn } from "./testing/started-workload.ts";

vi.mock("node:fs/promises", async (importOriginal) =>
  (await import("./testing/fake-files.ts")).fakeFiles(importOriginal),
);

const day = 24 * 60 * 60;

holdTime();

test("init containers run one after another, sidecars start among them and stop last, in reverse order", async () => {
  const sidecar = { restartPolicy: "Always" };
  const spec = {
    restartPolicy: "Never",
    initContainers: [container("one"), container("log", sidecar), container("two"), container("proxy", sidecar)],
    containers: [container("app")],
  };
  const { server, run, isOver } = start(spec, {
    one: [{ exitAfterMs: 2000 }],
    two: [{ exitAfterMs: 2000 }],
    app: [{ exitAfterMs: 3000 }],
  });
  await turn(isOver);
  expect(server.order).toEqual([
    "sandbox",
    ...["create one", "start one", "create log", "start log", "create two", "start two"],
    ...["create proxy", "start proxy", "create app", "start app"],
    ...["stop proxy 30", "stop log 30", "stop sandbox"],
  ]);
  expect(phases(run)).toEqual(["Succeeded"]);
});

test("containers are created and started in order, and one that cannot start does not block the others", async () => {
  const { server, isOver } = start(
    { restartPolicy: "Never", containers: ["one", "broken", "three"].map((name) => container(name)) },
    { one: [{ exitAfterMs: 2000 }], broken: [{ startError: "no such file" }], three: [{ exitAfterMs: 2000 }] },
  );
  await turn(isOver);
  expect(server.order.slice(1, -1)).toEqual(["one", "broken", "three"].flatMap((n) => [`create ${n}`, `start ${n}`]));
});

test("teardown waits for a sandbox that is still being set up, and abandons it on the second signal", async () => {
  const { server, run, isOver } = start({ containers: [container("app")] }, {});
  server.sandboxesHang = true;
  await turn(() => server.order.includes("sandbox"), 5);
  run.end();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(isOver()).toBe(false);
  run.hurry();
  await turn(isOver, 5);
});

test("a pod that is stopped while a container starts waits for that container's end, and no longer", async () => {
  const { server, run, isOver } = start({ containers: [container("app")] }, { app: [{ startMs: 1000 }] });
  await turn(() => server.order.includes("start app"), 5);
  run.end();
  await turn(isOver, 4);
  expect([...run.pods].flatMap(({ workers }) => workers.map(({ exit }) => exit?.exitCode))).toEqual([143]);
});

test("a container whose image cannot be pulled does not block the next one", async () => {
  const { server } = start(
    { containers: [container("one", { image: "far/one:1" }), container("two")] },
    { two: [{ exitAfterMs: 1000 }] },
  );
  server.pullError = "nobody has it";
  await turn(() => server.order.includes("start two"), 5);
  expect(server.order.slice(1)).toEqual(["pull far/one:1", "create two", "start two"]);
});

test("a sidecar's startup probe delays the containers after it", async () => {
  const startupProbe = { exec: { command: ["ready"] }, periodSeconds: 2, failureThreshold: 3 };
  const { server, isOver } = start(
    {
      restartPolicy: "Never",
      initContainers: [container("side", { restartPolicy: "Always", startupProbe })],
      containers: [container("app")],
    },
    { side: [{ execExit: 1 }, { execExit: 0 }], app: [{ exitAfterMs: 100 }] },
  );
  await turn(isOver);
  // Three failures stop it; its second attempt passes.
  expect(server.order.filter((call) => /side|app/.test(call))).toEqual([
    ...[
      "create side",
      "start side",
      "stop side 30",
      "create side",
      "start side",
      "create app",
      "start app",
      "stop side 30",
    ],
  ]);
});

test("a container that keeps failing is restarted at once, then after 10, 20, 40 s, up to 5 minutes", async () => {
  const { server, run } = start({ containers: [container("app")] }, { app: [{ exitAfterMs: 1000, exitCode: 1 }] });
  await turn(() => server.times("start app").length === 9);
  const starts = server.times("start app");
  const waits = starts.slice(1).map((time, index) => time - (starts[index] ?? 0) - 1);
  for (const [index, wanted] of [0, 10, 20, 40, 80, 160, 300, 300].entries()) {
    expect(waits[index]).toBeGreaterThanOrEqual(wanted - 0.1);
    expect(waits[index]).toBeLessThan(wanted + 3);
  }
  expect([...run.pods].map(({ workers: [worker] }) => worker?.restartCount)).toEqual([8]);
});

test("ten minutes of running reset the back-off", async () => {
  const fails = { exitAfterMs: 1000, exitCode: 1 };
  const { server } = start(
    { containers: [container("app")] },
    { app: [fails, fails, fails, { exitAfterMs: 700_000, exitCode: 1 }, fails] },
  );
  await turn(() => server.times("start app").length === 6);
  const starts = server.times("start app");
  expect((starts[4] ?? 0) - (starts[3] ?? 0)).toBeLessThan(703);
  expect((starts[5] ?? 0) - (starts[4] ?? 0)).toBeGreaterThan(10.9);
});

describe("a pod ends", () => {
  test.each<[string, Act[], string, number]>([
    ["Never", [{ exitAfterMs: 10, exitCode: 3 }], "Failed", 0],
    ["Never", [{ exitAfterMs: 10 }], "Succeeded", 0],
    ["Never", [{ startError: "no such file" }], "Failed", 0],
    ["OnFailure", [{ exitAfterMs: 10, exitCode: 3 }, { exitAfterMs: 10 }], "Succeeded", 1],
  ])("with restart policy %s and %j as %s", async (restartPolicy, acts, phase, restarts) => {
    const { run, isOver } = start({ restartPolicy, containers: [container("app")] }, { app: acts });
    await turn(isOver);
    expect(phases(run)).toEqual([phase]);
    expect([...run.pods].flatMap(({ workers }) => workers.map(({ restartCount }) => restartCount))).toEqual([restarts]);
  });

  test("when an init container fails under Never, without its containers", async () => {
    const spec = { restartPolicy: "Never", initContainers: [container("init")], containers: [container("app")] };
    const { server, run, isOver } = start(spec, { init: [{ exitAfterMs: 10, exitCode: 2 }] });
    await turn(isOver);
    expect(phases(run)).toEqual(["Failed"]);
    expect(server.order).not.toContain("create app");
  });

  test("when its activeDeadlineSeconds have passed", async () => {
    const { server, run, isOver } = start({ activeDeadlineSeconds: 20, containers: [container("app")] }, {});
    await turn(isOver);
    expect(phases(run)).toEqual(["Failed DeadlineExceeded"]);
    expect(server.times("stop app 30")[0]).toBeCloseTo(20, 0);
  });

  test("not before its activeDeadlineSeconds, however long", async () => {
    const spec = { containers: [container("app")] };
    for (const more of [{ activeDeadlineSeconds: 30 * day }, { activeDeadlineSeconds: 9_000_000 * day }]) {
      const { run, isOver } = start({ ...spec, ...more }, {});
      const job = start(spec, {}, { kind: "Job", ...more });
      await turn(() => phases(run)[0] === "Running");
      await vi.advanceTimersByTimeAsync(60_000);
      expect([isOver(), job.isOver()]).toEqual([false, false]);
      for (const each of [run, job.run]) each.end();
    }
  });

  test("when it is stopped, with its grace period, and leaves nothing behind", async () => {
    const spec = { terminationGracePeriodSeconds: 7, containers: [container("app")] };
    const { server, run, removed, isOver } = start(spec, {});
    await turn(() => server.order.includes("start app"));
    run.end();
    await turn(isOver);
    expect(server.order.slice(-2)).toEqual(["stop app 7", "stop sandbox"]);
    await run.remove();
    expect(server.sandboxes.size).toBe(0);
    expect(removed).toEqual(["/play/p"]);
  });
});

test("a liveness probe that fails or hangs stops the container with the probe's grace period, and it is restarted", async () => {
  for (const execExit of [1, Number.POSITIVE_INFINITY]) {
    const livenessProbe = {
      exec: { command: ["x"] },
      periodSeconds: 5,
      failureThreshold: 2,
      terminationGracePeriodSeconds: 3,
    };
    const { server, lines, run } = start(
      { containers: [container("app", { livenessProbe })] },
      { app: [{ execExit }, {}] },
    );
    await turn(() => server.times("start app").length === 2);
    expect(server.order).toContain("stop app 3");
    expect(lines.join("\n")).toContain("liveness probe failed; stopping it");
    run.end();
  }
});

test("a container that never becomes ready keeps running, and is reported as not ready", async () => {
  const readinessProbe = { exec: { command: ["x"] }, periodSeconds: 5, failureThreshold: 1 };
  const { server, run, lines } = start(
    { containers: [container("app", { readinessProbe })] },
    { app: [{ execExit: 1 }] },
  );
  await turn(() => lines.filter((line) => line.includes("readiness probe: exit 1")).length > 3);
  expect(server.times("start app")).toHaveLength(1);
  expect([...run.pods].map(({ workers: [worker] }) => worker?.ready)).toEqual([false]);
});

test("pulling a nonexistent image is retried after 10, 20, 40 s, and its pod is pending", async () => {
  const { server, run, lines } = start({ containers: [container("app", { image: "nowhere/x:1" })] }, {});
  server.pullError = "there is no such image";
  await turn(() => server.times("pull nowhere/x:1").length === 4);
  const [first = 0, second = 0, third = 0, fourth = 0] = server.times("pull nowhere/x:1");
  expect([second - first, third - second, fourth - third].map((seconds) => Math.round(seconds / 10))).toEqual([
    1, 2, 4,
  ]);
  expect(run.outcome).toBe("Pending");
  expect(lines.join("\n")).toContain("ErrImagePull: there is no such image");
  server.pullError = undefined;
  await turn(() => server.order.includes("start app"));
});

test("imagePullPolicy Never and a missing image", async () => {
  const { lines } = start({ containers: [container("app", { image: "nowhere/x:1", imagePullPolicy: "Never" })] }, {});
  await turn(() => lines.some((line) => line.includes("imagePullPolicy is Never")));
});

test("a lost sandbox is replaced, and the pod starts over with its init containers", async () => {
  const spec = { initContainers: [container("init")], containers: [container("app")] };
  const { server } = start(spec, { init: [{ exitAfterMs: 10 }] });
  await turn(() => server.order.includes("start app"));
  server.loseSandboxes();
  await turn(() => server.times("start app").length === 2);
  expect(server.times("sandbox")).toHaveLength(2);
  expect(server.times("start init")).toHaveLength(2);
});

test("an unreachable runtime is waited for: nothing is restarted when it answers again", async () => {
  const { server, lines, run } = start({ containers: [container("app")] }, {});
  await turn(() => server.order.includes("start app"));
  server.away = true;
  await turn(() => lines.includes("runtime: does not answer; containers keep running; waiting for it"));
  server.away = false;
  await turn(() => lines.includes("runtime: answers again"));
  expect(server.times("start app")).toHaveLength(1);
  run.end();
});

test("teardown of a pod with an unreachable runtime is given up after 10 s", async () => {
  const { server, run, ended, isOver } = start({ containers: [container("app")] }, {});
  await turn(() => server.order.includes("start app"));
  server.away = true;
  run.end();
  await turn(isOver, 60);
  await expect(ended).rejects.toThrow("No connection");
});

describe("a Job", () => {
  const job = (backoffLimit: number) => ({ kind: "Job" as const, backoffLimit });
  const fails = { exitAfterMs: 10, exitCode: 1 };

  test("creates another pod when one has failed, with increasing delays, until one succeeds", async () => {
    const spec = { restartPolicy: "Never", containers: [container("app")] };
    const { server, run, isOver } = start(spec, { app: [fails, fails, { exitAfterMs: 10 }] }, job(6));
    await turn(isOver);
    expect(run.outcome).toBe("Succeeded");
    const [first = 0, second = 0, third = 0] = server.times("sandbox");
    expect([second - first, third - second].map((seconds) => Math.round(seconds / 10))).toEqual([1, 2]);
  });

  test("fails when its pods have exceeded the backoffLimit", async () => {
    const spec = { restartPolicy: "Never", containers: [container("app")] };
    const { server, run, lines, isOver } = start(spec, { app: [fails] }, job(1));
    await turn(isOver);
    expect(run.outcome).toBe("Failed");
    expect(server.times("sandbox")).toHaveLength(2);
    expect(lines).toContain("Job default/p: Failed (BackoffLimitExceeded)");
  });

  test("fails when its pod's containers have exceeded the backoffLimit in restarts", async () => {
    const spec = { restartPolicy: "OnFailure", containers: [container("app")] };
    const { server, run, isOver } = start(spec, { app: [fails] }, job(2));
    await turn(isOver);
    expect(run.outcome).toBe("Failed");
    expect(server.times("start app")).toHaveLength(2);
    expect(phases(run)).toEqual(["Failed BackoffLimitExceeded"]);
  });
});

test("a Deployment has its replicas as pods", async () => {
  const { server } = start({ containers: [container("app")] }, {}, { kind: "Deployment", replicas: 3 });
  await turn(() => server.times("start app").length === 3);
  const names = [...server.sandboxes.values()].map(({ config }) => config.metadata?.name);
  expect(names.sort()).toEqual(["p-0", "p-1", "p-2"]);
});

test("a probe with a period of a month runs once", async () => {
  const livenessProbe = { exec: { command: ["x"] }, periodSeconds: 30 * day };
  const { server, run } = start({ containers: [container("app", { livenessProbe })] }, { app: [{ execExit: 0 }] });
  const exec = vi.spyOn(server.cri, "execSync");
  await turn(() => exec.mock.calls.length > 0);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(exec).toHaveBeenCalledTimes(1);
  run.end();
});
