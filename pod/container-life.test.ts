// StartContainer: starts that fail, hang or are aborted; exits reported once.

import { execFileSync } from "node:child_process";
import { constants } from "node:fs";
import { mkdir, open, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { containerConfig, sandboxConfig } from "./testing/configs.ts";
import {
  breakDisk,
  holdStart,
  makeContainer,
  never,
  recordEvents,
  runContainer,
  runPod,
  useNode,
} from "./testing/node.ts";
import { refusal } from "./testing/scripted-monitor.ts";

const node = useNode();
holdTime();

describe("a start", () => {
  test("is one message to the monitor", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    const bundle = join(node().podDirectory(id), "containers", c);
    expect(node().monitor(id).starts).toEqual([{ id: c, bundle, stdin: false, stdinOnce: false }]);
    expect(pods.container(c).phase).toMatchObject({ state: "running" });
    await until("it is on record", async () => {
      const record = await node().record(c);
      return record?.kind === "container" && record.phase.state === "running";
    });
    await expect(pods.startContainer(c, never)).rejects.toMatchObject({ name: "containerState" });
  });

  test.each([
    [
      "a seccomp profile passes its compiled filter",
      false,
      expect.stringMatching(/\/run\/seccomp\/[0-9a-f]{64}\.bpf$/),
    ],
    ["a seccomp profile that does not apply, because it is privileged, passes no filter", true, undefined],
  ])("of a container with %s", async (_, privileged, seccompFilter) => {
    const pods = await node().start();
    const id = await runPod(pods);
    const config = containerConfig("c", "img", ["/bin/sleep"]);
    const security = { ...config.security, privileged, seccomp: { type: "runtime-default", path: "" } } as const;
    await pods.startContainer(await pods.createContainer(id, { ...config, security }, never), never);
    expect(node().monitor(id).starts[0]?.seccompFilter).toEqual(seccompFilter);
  });

  test("with an OCI runtime passes its binary and a state directory of its own", async () => {
    const pods = await node().start();
    const native = node().handlers.get("native");
    if (native === undefined) throw new Error("there is no handler");
    node().handlers.set("crun", { ...native, name: "crun", oci: { binary: "/usr/bin/crun" } });
    const id = await pods.runSandbox(sandboxConfig("p"), "crun", never);
    await runContainer(pods, id);
    const root = join(node().directory, "run/oci/crun");
    expect(node().monitor(id).starts).toMatchObject([{ handler: { binary: "/usr/bin/crun", root } }]);
  });

  test("that cannot be recorded still succeeds: the container runs, and the failure is logged", async () => {
    const pods = await node().start();
    const c = await makeContainer(pods, await runPod(pods));
    await breakDisk(node());
    await pods.startContainer(c, never);
    expect(pods.container(c).phase).toMatchObject({ state: "running" });
    await until("it is logged", () =>
      node().log.some((line) => line.startsWith(`error container ${c}: its start could not be recorded`)),
    );
  });

  test("whose record hangs on the disk still succeeds: it does not wait for the record", async () => {
    const pods = await node().start();
    const c = await makeContainer(pods, await runPod(pods));
    const file = join(node().stateDirectory, `${c}.json`);
    await rm(file);
    execFileSync("mkfifo", [file]);
    await pods.startContainer(c, never);
    expect(pods.container(c).phase).toMatchObject({ state: "running" });
    // Lets the writer continue.
    const reader = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    await until("the record is written", async () => {
      const { bytesRead } = await reader.read(Buffer.alloc(1 << 16)).catch(() => ({ bytesRead: 0 }));
      return bytesRead > 0;
    });
    await reader.close();
  });

  test("that the monitor refuses leaves the container exited with 128, never announced as started, and sends no stop", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const events = recordEvents(pods);
    const c = await makeContainer(pods, id);
    node().script.fail("monitor start", refusal("not_executable", "execve of /bin/sleep: ENOENT"));
    await expect(pods.startContainer(c, never)).rejects.toMatchObject({ code: "InvalidArgument" });
    expect(pods.container(c).phase).toMatchObject({
      state: "exited",
      startedAt: 0n,
      exitCode: 128,
      reason: "StartError",
      message: expect.stringContaining("execve of /bin/sleep"),
    });
    expect(node().script.calls(c)).not.toContain("monitor stop");
    await until("its exit is reported", () => events.includes("stopped c"));
    expect(events).toEqual(["created c", "stopped c"]);
    await pods.removeContainer(c, never);
  });

  test("that times out is aborted, and the container does not run later", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    node().script.hold("monitor start");
    const starting = pods.startContainer(c, never);
    starting.catch(() => undefined);
    await until("the monitor is asked", () => node().monitor(id).starts.length === 1);
    await pass(limits.containerStart);
    await expect(starting).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 128, reason: "StartError" });
    expect(node().script.calls(c)).toContain("monitor stop");
    expect(node().monitor(id).running).toEqual([]);
  });

  test("that succeeded just as it timed out is killed, and keeps its real exit", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const events = recordEvents(pods);
    const c = await makeContainer(pods, id);
    const start = node().script.hold("monitor start");
    const starting = pods.startContainer(c, never);
    starting.catch(() => undefined);
    await start.arrived;
    start.act();
    await pass(limits.containerStart);
    await expect(starting).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(node().monitor(id).running).toEqual([]);
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "Error" });
    await until("its exit is reported", () => events.includes("stopped c"));
    expect(events).toEqual(["created c", "started c", "stopped c"]);
  });

  test("whose exit is the first that is known of it is never announced as started while it is shown as created", async () => {
    const pods = await node().start();
    const { c, start, starting } = await holdStart(node(), pods);
    const shown: string[] = [];
    const read = async () => {
      for await (const { type, containerId, containers } of pods.events(never, () => undefined))
        if (containerId === c) shown.push(`${type}: ${containers.find(({ id }) => id === c)?.phase.state}`);
    };
    void read();
    start.act();
    await pass(limits.containerStart);
    await expect(starting).rejects.toMatchObject({ code: "DeadlineExceeded" });
    await until("its exit is reported", () => shown.length === 2);
    expect(shown).toEqual(["started: exited", "stopped: exited"]);
  });

  test("that succeeded just as it timed out keeps its real exit, even if the watch does not report it", async () => {
    const pods = await node().start();
    const { id, c, start, starting } = await holdStart(node(), pods);
    start.act();
    node().monitor(id).forgetWatchers();
    await pass(limits.containerStart);
    await expect(starting).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "Error" });
  });

  test("continues when its caller gives up", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const start = node().script.hold("monitor start");
    const caller = new AbortController();
    const starting = pods.startContainer(c, caller.signal);
    await start.arrived;
    caller.abort();
    await expect(starting).rejects.toMatchObject({ code: "Cancelled" });
    start.release();
    await until("it runs", () => pods.container(c).phase.state === "running");
  });

  test("whose caller gave up before its turn never begins", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const [first, second] = [await makeContainer(pods, id, "first"), await makeContainer(pods, id, "second")];
    const start = node().script.hold("monitor start");
    const starting = pods.startContainer(first, never);
    await start.arrived;
    const caller = new AbortController();
    const waiting = pods.startContainer(second, caller.signal);
    caller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "Cancelled" });
    start.release();
    await starting;
    await pods.startContainer(await makeContainer(pods, id, "third"), never);
    expect(node().monitor(id).running).not.toContain(second);
    expect(pods.container(second).phase.state).toBe("created");
  });

  test("that joins another container's PID namespace passes that container's id, not its PID, to the monitor", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const target = await runContainer(pods, id, "target");
    const config = containerConfig("debug", "img", ["/bin/sh"]);
    const namespaces = { ...config.security.namespaces, pid: "target", targetId: target } as const;
    const joining = { ...config, security: { ...config.security, namespaces } };
    const c = await pods.createContainer(id, joining, never);
    await pods.startContainer(c, never);
    expect(node().monitor(id).starts.at(-1)).toMatchObject({ id: c, pidOf: target });
    node().monitor(id).exits(target, { exitCode: 0 });
    const late = { ...joining, metadata: { name: "late", attempt: 0 } };
    await pods.stopContainer(target, 0n, never);
    await expect(pods.createContainer(id, late, never)).rejects.toMatchObject({ name: "namespaceTarget" });
  });

  test("passes the monitor a log path with the node's own symlinks resolved", async () => {
    const pods = await node().start();
    await mkdir(join(node().directory, "disk"));
    await symlink(join(node().directory, "disk"), join(node().directory, "log"));
    const config = { ...sandboxConfig("p"), logDirectory: join(node().directory, "log", "pods", "p") };
    const id = await pods.runSandbox(config, "", never);
    const c = await pods.createContainer(
      id,
      { ...containerConfig("c", "img", ["/bin/true"]), logPath: "c/0.log" },
      never,
    );
    await pods.startContainer(c, never);
    expect(node().monitor(id).starts[0]?.logPath).toBe(join(node().directory, "disk/pods/p/c/0.log"));
    expect(pods.container(c).logPath).toBe(join(config.logDirectory, "c/0.log"));
  });
});

describe("an exit", () => {
  test.each([
    [{ exitCode: 0 }, "Completed"],
    [{ exitCode: 3 }, "Error"],
    [{ exitCode: 137, oomKilled: true }, "OOMKilled"],
    [{ exitCode: 1, oomKilled: true }, "OOMKilled"],
  ])("%j is reported as %s", async (exit, reason) => {
    const pods = await node().start();
    await pods.tidy();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    await until("the monitor is watched", () => node().monitor(id).watchers === 1);
    node().monitor(id).exits(c, exit);
    await until("it is seen", () => pods.container(c).phase.state === "exited");
    expect(pods.container(c).phase).toMatchObject({ exitCode: exit.exitCode, reason });
    await until("it is on record", async () => {
      const record = await node().record(c);
      return record?.kind === "container" && record.phase.state === "exited";
    });
  });

  test("that arrives before the answer to the start is kept", async () => {
    const pods = await node().start();
    await pods.tidy();
    const id = await runPod(pods);
    const events = recordEvents(pods);
    await until("the monitor is watched", () => node().monitor(id).watchers === 1);
    const c = await makeContainer(pods, id);
    const start = node().script.hold("monitor start");
    const starting = pods.startContainer(c, never);
    await start.arrived;
    start.act();
    node().monitor(id).exits(c, { exitCode: 7 });
    await until("it is seen", () => pods.container(c).phase.state === "exited");
    start.release();
    await starting;
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 7 });
    await quiet();
    expect(events).toEqual(["created c", "started c", "stopped c"]);
  });
});
