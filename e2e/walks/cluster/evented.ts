// How soon a kubelet notices changes of a pod with EventedPLEG, compared with listing all pods every second.

import assert from "node:assert/strict";
import { type Scene, shell } from "./scene.ts";
import { settings } from "./settings.ts";

const rounds = 5;

export async function evented(scene: Scene): Promise<void> {
  const { check, node, say } = scene;
  const measured: Record<string, { readonly run: number; readonly end: number }> = {};
  for (const on of [false, true]) {
    const title = on ? "following events" : "listing";
    await check(`pods that exit, and pods that are deleted, with a kubelet ${title}`, async () => {
      await node.restartKubelet({ ...settings, featureGates: { ...settings.featureGates, EventedPLEG: on } });
      const [run, end]: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds; round += 1) {
        run.push(await seconds(() => runToSuccess(scene, `run-${on}-${round}`)));
        end.push(await secondsToEnd(scene, `end-${on}-${round}`));
      }
      say(`${title}: run to Succeeded ${shown(run)}; deleted with a grace period of 2 s ${shown(end)}`);
      measured[String(on)] = { run: median(run), end: median(end) };
    });
  }
  await check("following events is faster", async () => {
    const [events, lists] = [measured.true, measured.false];
    assert.ok(events !== undefined && lists !== undefined);
    assert.ok(events.run < lists.run && events.end < lists.end, JSON.stringify(measured));
  });
  await node.restartKubelet();
}

async function runToSuccess(scene: Scene, name: string): Promise<void> {
  await scene.create(name, { restartPolicy: "Never", containers: [shell("main", "true")] });
  assert.equal(await scene.ended(name), "Succeeded");
}

/** From the deletion of a pod that ignores SIGTERM until its removal. */
async function secondsToEnd(scene: Scene, name: string): Promise<number> {
  await scene.create(name, { containers: [shell("main", "trap '' TERM; while true; do sleep 1; done")] });
  await scene.ready(name);
  return await seconds(async () => void (await scene.remove(name, 2)));
}

async function seconds(action: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await action();
  return (performance.now() - began) / 1000;
}

function shown(values: readonly number[]): string {
  return `${values.map((value) => value.toFixed(1)).join(" ")} s`;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
