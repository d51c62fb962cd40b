// StopContainer: the grace period, stops during a start, stops that the monitor does not answer.

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { containerConfig } from "./testing/configs.ts";
import { holdStart, makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";

const node = useNode();
holdTime();

describe("a stop", () => {
  test("sends the container's stop signal, waits for the grace period, and reports the exit once", async () => {
    const pods = await node().start();
    await pods.tidy();
    const id = await runPod(pods);
    const events = recordEvents(pods);
    const c = await runContainer(pods, id);
    await pods.stopContainer(c, 10n, never);
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 143, reason: "Error" });
    await pods.stopContainer(c, 10n, never);
    await pods.stopContainer("f".repeat(64), 10n, never);
    await until("the watch has reported it too", () => events.length >= 3);
    await quiet();
    expect(events).toEqual(["created c", "started c", "stopped c"]);
    expect(node().script.count("monitor stop", c)).toBe(1);
  });

  test("during a start waits for the start, then stops the container", async () => {
    const pods = await node().start();
    const { id, c, start, starting } = await holdStart(node(), pods);
    const stopping = pods.stopContainer(c, 30n, never);
    await quiet();
    expect(node().script.calls(c)).not.toContain("monitor stop");
    start.release();
    await starting;
    await stopping;
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 143 });
    expect(node().monitor(id).running).toEqual([]);
  });

  test("during a start that takes longer than the grace period aborts the start", async () => {
    const pods = await node().start();
    const { id, c, starting } = await holdStart(node(), pods);
    const stopping = pods.stopContainer(c, 2n, never);
    await pass(1_900);
    expect(pods.container(c).phase.state).toBe("created");
    await pass(100);
    await stopping;
    await expect(starting).rejects.toMatchObject({ name: "startStopped", code: "Aborted" });
    expect(pods.container(c).phase).toMatchObject({
      state: "exited",
      exitCode: 128,
      reason: "StartError",
      message: expect.stringContaining("because the container is being stopped"),
    });
    expect(node().monitor(id).running).toEqual([]);
  });

  test("that aborts a start returns only when the container is known not to run", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const start = node().script.hold("monitor start");
    const killing = node().script.hold("monitor stop");
    pods.startContainer(c, never).catch(() => undefined);
    await start.arrived;
    start.act();
    let isStopped = false;
    const stopping = pods.stopContainer(c, 2n, never).then(() => {
      isStopped = true;
    });
    await pass(2_000);
    await killing.arrived;
    await quiet();
    expect(isStopped).toBe(false);
    killing.release();
    await stopping;
    expect(node().monitor(id).running).toEqual([]);
  });

  test("that the monitor does not answer in time fails, and the container still counts as running", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await pods.createContainer(id, { ...containerConfig("c", "img", ["/bin/sh"]), tty: true }, never);
    const start = node().script.hold("monitor start");
    const starting = pods.startContainer(c, never);
    await start.arrived;
    const stop = node().script.hold("monitor stop");
    const stopping = pods.stopContainer(c, 30n, never);
    let hasFailed = false;
    stopping.catch(() => {
      hasFailed = true;
    });
    // The start takes up a part of the grace period.
    await pass(10_000);
    start.release();
    await starting;
    await stop.arrived;
    const checkpoint = () => pods.checkpointContainer(c, join(node().directory, "archive.tar"), 0n, never);
    await expect(checkpoint()).rejects.toMatchObject({ name: "checkpointStopped" });
    await pass(20_000 + limits.shutdown - 1);
    expect(hasFailed).toBe(false);
    await pass(1);
    await expect(stopping).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(pods.container(c).phase.state).toBe("running");
    await expect(checkpoint(), "the stop is over").rejects.toMatchObject({ name: "checkpointTerminal" });
  });

  test("of a container that the monitor does not know marks it exited", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    node().monitor(id).forgets(c);
    await pods.stopContainer(c, 0n, never);
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
  });

  test("continues when its caller gives up", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    const stop = node().script.hold("monitor stop");
    const caller = new AbortController();
    const stopping = pods.stopContainer(c, 600n, caller.signal);
    await stop.arrived;
    caller.abort();
    await expect(stopping).rejects.toMatchObject({ code: "Cancelled" });
    stop.release();
    await until("it has exited", () => pods.container(c).phase.state === "exited");
  });

  test("with a long grace period blocks nothing, and a later stop can shorten it", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    const graceful = node().script.hold("monitor stop");
    const patient = pods.stopContainer(c, 600n, never);
    await graceful.arrived;
    await runContainer(pods, id, "other");
    await pods.stopContainer(c, 0n, never);
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137 });
    graceful.release();
    await patient;
    expect(pods.container(c).phase).toMatchObject({ exitCode: 137 });
  });
});
