// List filters: an id is a unique prefix, and all that a filter sets must match.

import { expect, test } from "vitest";
import { holdTime } from "./testing/clock.ts";
import { containerConfig, sandboxConfig } from "./testing/configs.ts";
import { never, useNode } from "./testing/node.ts";

const node = useNode();
holdTime();
const everything = { labels: new Map() };

test("pods and containers by id, pod, state and labels", async () => {
  const pods = await node().start();
  const labels = (tier: string) => new Map([...Object.entries({ app: "web", tier })]);
  const pod = async (name: string) =>
    await pods.runSandbox({ ...sandboxConfig(name), labels: labels(name) }, "", never);
  const [front, back] = [await pod("front"), await pod("back")];
  const config = containerConfig("c", "img", ["/bin/sleep"]);
  const [running, created] = [
    await pods.createContainer(front, { ...config, labels: labels("front") }, never),
    await pods.createContainer(back, { ...config, labels: labels("back") }, never),
  ];
  await pods.startContainer(running, never);

  const listed = (filter: object) => pods.sandboxes({ ...everything, ...filter }).map(({ id }) => id);
  expect(listed({ id: front.slice(0, 32) })).toEqual([front]);
  expect(listed({ id: "none" }), "no id has this prefix").toEqual([]);
  expect(listed({ labels: labels("front") })).toEqual([front]);
  expect(listed({ labels: new Map([["app", "web"]]) })).toEqual([front, back]);
  expect(listed({ id: front, labels: labels("back") })).toEqual([]);

  const containers = (filter: object) => pods.containers({ ...everything, ...filter }).map(({ id }) => id);
  expect(containers({ sandboxId: front.slice(0, 32) })).toEqual([running]);
  expect(containers({ state: "running" })).toEqual([running]);
  expect(containers({ state: "created" })).toEqual([created]);
  expect(containers({ state: "unknown" })).toEqual([]);
  expect(containers({ labels: labels("back"), state: "running" })).toEqual([]);
});
