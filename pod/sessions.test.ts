// Commands, attaching and logs of a container: only while it runs, and with room for its output.

import { expect, test } from "vitest";
import { holdTime } from "./testing/clock.ts";
import { sandboxConfig } from "./testing/configs.ts";
import { makeContainer, never, runContainer, runPod, useNode } from "./testing/node.ts";

const node = useNode();
holdTime();
const call = { signal: never, answered: Promise.resolve() };

test("a container that does not run is refused before its monitor is asked", async () => {
  const pods = await node().start();
  const id = await makeContainer(pods, await runPod(pods));
  const refused = { name: "containerState", code: "FailedPrecondition" };
  await expect(pods.execSync(id, ["true"], 1n, call)).rejects.toMatchObject(refused);
  await expect(pods.exec(id, { command: ["true"], tty: false, stdin: false }, never)).rejects.toMatchObject(refused);
  await expect(pods.attach(id, false, never)).rejects.toMatchObject(refused);
  await expect(pods.reopenLog(id)).rejects.toMatchObject(refused);
  expect(() => pods.streamable(id)).toThrow(expect.objectContaining(refused));
  expect(node().script.calls(id)).toEqual(["images prepareSnapshot"]);
});

test("a container without a log has none to reopen", async () => {
  const pods = await node().start();
  const id = await runContainer(pods, await runPod(pods));
  await expect(pods.reopenLog(id)).rejects.toMatchObject({ name: "logPathless" });
});

test("the room for an output is free again once the client has the answer", async () => {
  const pods = await node().start();
  const id = await runContainer(pods, await runPod(pods));
  // More than there are places.
  for (let calls = 0; calls < 600; calls += 1) await pods.execSync(id, ["true"], 1n, call);
  expect(node().script.count("monitor execSync", id)).toBe(600);
});

test("nothing is run in a container whose runtime is refused by now", async () => {
  const pods = await node().start();
  const native = node().handlers.get("native");
  if (native === undefined) throw new Error("there is no handler");
  let isVulnerable = false;
  const check = async () => {
    if (isVulnerable) throw new Error("runc 1.0 is vulnerable");
  };
  node().handlers.set("runc", { ...native, name: "runc", check });
  const id = await runContainer(pods, await pods.runSandbox(sandboxConfig("p"), "runc", never));
  isVulnerable = true;
  await expect(pods.execSync(id, ["true"], 1n, call)).rejects.toThrow("is vulnerable");
  const request = { command: ["true"], tty: false, stdin: false };
  await expect(pods.exec(id, request, never)).rejects.toThrow("is vulnerable");
  await pods.stopContainer(id, 0n, never);
});
