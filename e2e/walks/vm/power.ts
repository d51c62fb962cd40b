// Soft and hard reboots, and power cuts during pulls and starts, of a node with a persistent disk: after each boot all
// pods are reported as exited, can be removed normally, and leave nothing behind; images reported as pulled are
// complete.

import assert from "node:assert/strict";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import {
  type BuiltImage,
  busyboxLayer,
  makeImage,
  makeLayer,
  makeTar,
  type PushTarget,
  pushImage,
} from "../../../image/testing/build-image.ts";
import { until } from "../../fixtures/steps.ts";
import { at, type JsonValue } from "../crictl/crictl.ts";
import { crictlOf, leases } from "./keelson.ts";
import type { Machine } from "./machine.ts";
import type { Node } from "./node.ts";
import { runContainer, runPod } from "./pods.ts";
import { registryAddress, serveRegistry } from "./registry.ts";

const shutdownMs = 180_000;
const pullsMs = 300_000;
const idle = "trap 'exit 0' TERM; while :; do sleep 1; done";

export interface PulledImage {
  readonly repository: string;
  readonly image: BuiltImage;
  /** SHA-256 of each file in its layers, by diff ID and path below the layer's root. */
  readonly files: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** Images that share nothing except the shell. */
export async function imagesToPull(count: number): Promise<readonly PulledImage[]> {
  const shell = await busyboxLayer();
  return Array.from({ length: count }, (_, index) => {
    const layers = Array.from({ length: 3 }, (_, layer) => {
      const contents = Array.from(
        { length: 12 },
        (_, file) => [`data/${layer}-${file}`, randomBytes(randomInt(200_000))] as const,
      );
      const tar = makeTar([{ name: "data/" }, ...contents.map(([name, content]) => ({ name, content }))]);
      const sums = new Map(
        contents.map(([name, content]) => [name, createHash("sha256").update(content).digest("hex")]),
      );
      return { layer: makeLayer(tar), sums };
    });
    const image = makeImage({ layers: [shell, ...layers.map(({ layer }) => layer)], defaults: { Env: ["PATH=/bin"] } });
    const files = new Map(layers.map(({ layer, sums }) => [layer.diffId, sums]));
    return { repository: `power/${index}`, image, files };
  });
}

export async function pushImages(registry: PushTarget, images: readonly PulledImage[]): Promise<void> {
  for (const { repository, image } of images) await pushImage(registry, repository, image, "1");
}

export async function reboots(node: Node, count: number): Promise<void> {
  for (let number = 1; number <= count; number += 1) {
    const soft = number % 2 === 1;
    await node.step(`${soft ? "soft" : "hard"} reboot ${number} of ${count}`, async () => {
      const crictl = crictlOf(node.machine);
      const pod = await runPod(node.machine, crictl, `reboot-${number}`);
      await runContainer(node.machine, crictl, pod, { name: "main", script: idle });
      if (soft) {
        // The command dies with the guest.
        await node.machine.attempt("systemctl reboot").catch(() => undefined);
        await node.machine.ended(shutdownMs);
      } else {
        // The kernel does this by itself within half a minute; power cuts test younger pods.
        await node.machine.run("sync");
        await node.machine.cut();
      }
      const machine = await node.boot();
      await checkPodsEnded(machine, 1);
    });
  }
  await checkPodStarts(node);
}

export async function powerCuts(node: Node, images: readonly PulledImage[], count: number): Promise<void> {
  const seen = { pulled: 0, listed: 0, pods: 0, layers: 0 };
  let forgotten = 0;
  for (let number = 1; number <= count; number += 1) {
    await node.step(`power cut ${number} of ${count}`, async () => {
      const pulled = new Set<PulledImage>();
      const started = new Set<string>();
      await serveRegistry(node.machine);
      const working = work(node.machine, images, { pulled, started }, number);
      const began = performance.now();
      await Promise.race([randomMoment(images, pulled), working]);
      const ms = Math.round(performance.now() - began);
      await node.machine.cut();
      await working;
      const machine = await node.boot();
      const known = new Set((await crictlOf(machine).run("pods", "--quiet")).split("\n"));
      forgotten += [...started].filter((id) => !known.has(id)).length;
      const listed = await checkImages(machine, images, pulled, seen);
      seen.pods += await checkPodsEnded(machine);
      node.print(
        `after ${ms} ms: ${pulled.size} images pulled before the cut, ${listed} listed after it, all complete`,
      );
      await crictlOf(machine).attempt("rmi", ...images.map(({ repository }) => referenceOf(repository)));
    });
  }
  node.print(
    `${seen.pulled} pulls answered before a cut; ${seen.listed} images and ${seen.layers} layers verified after a cut, ${seen.pods} pods killed by a cut`,
  );
  // Pod records are not flushed: the daemon may have lost some, and must then have cleaned up their pods.
  node.print(`${forgotten} pods whose start had been answered were no longer known`);
  await checkPodStarts(node);
}

/** Waits for a random number of pulls to be answered, however long they take, and then for a random time. */
async function randomMoment(images: readonly PulledImage[], pulled: ReadonlySet<PulledImage>): Promise<void> {
  const answered = randomInt(images.length);
  await until(`${answered} pulls`, pullsMs, async () => (pulled.size >= answered ? true : undefined));
  await delay(500 + randomInt(8000));
}

/** What was answered before the power cut. */
interface Answered {
  readonly pulled: Set<PulledImage>;
  /** Pod IDs. */
  readonly started: Set<string>;
}

/** Pulls and starts pods until the power cut, whose errors it ignores. */
async function work(
  machine: Machine,
  images: readonly PulledImage[],
  { pulled, started }: Answered,
  round: number,
): Promise<void> {
  const crictl = crictlOf(machine);
  const pulls = async () => {
    for (const image of images) {
      await crictl.run("pull", referenceOf(image.repository));
      pulled.add(image);
    }
  };
  const starts = async () => {
    for (let number = 0; ; number += 1) {
      const pod = await runPod(machine, crictl, `cut-${round}-${number}`);
      started.add(pod.id);
      await runContainer(machine, crictl, pod, { name: "main", script: idle });
    }
  };
  const outcomes = await Promise.allSettled([pulls(), starts()]);
  // crictl allows 20 s for a connection, which may be too short for a guest on a busy host.
  const expected = /the guest is off|error reading server preface/;
  for (const outcome of outcomes)
    if (outcome.status === "rejected" && !expected.test(String(outcome.reason))) throw outcome.reason;
}

function referenceOf(repository: string): string {
  return `${registryAddress}/${repository}:1`;
}

/**
 * Returns the number of images. Checks that none of those reported as pulled is lost, and that all blobs and files
 * match.
 */
async function checkImages(
  machine: Machine,
  images: readonly PulledImage[],
  pulled: ReadonlySet<PulledImage>,
  seen: { pulled: number; listed: number; layers: number },
): Promise<number> {
  const listed = at(await crictlOf(machine).json("images", "--output", "json"), "images");
  assert(Array.isArray(listed));
  const ids = new Set(listed.map((each: JsonValue) => at(each, "id")));
  const lost = [...pulled].filter(({ image }) => !ids.has(image.id));
  assert.deepEqual(
    lost.map(({ repository }) => repository),
    [],
    "reported as pulled, but lost",
  );
  const wanted = "\\( -path 'blobs/*' -o -path '*/root/data/*' \\)";
  const sums = await machine.run(
    `cd /var/lib/keelson/image && find blobs layers -type f ${wanted} -exec sha256sum {} +`,
    300,
  );
  const onDisk = new Map(sums.split("\n").map((line) => [line.slice(66), line.slice(0, 64)]));
  const present = images.filter(({ image }) => ids.has(image.id));
  for (const { image, files } of present) {
    for (const digest of [image.digest, image.id, ...image.layers.map((layer) => layer.digest)]) {
      const hex = digest.slice("sha256:".length);
      assert.equal(onDisk.get(`blobs/sha256/${hex}`), hex, `blob ${digest}`);
    }
    for (const [diffId, layer] of files) {
      for (const [name, sum] of layer)
        assert.equal(
          onDisk.get(`layers/${diffId.slice("sha256:".length)}/root/${name}`),
          sum,
          `${name} in layer ${diffId}`,
        );
      seen.layers += 1;
    }
  }
  seen.pulled += pulled.size;
  seen.listed += present.length;
  return present.length;
}

/**
 * Returns the number of pods. Checks that all are NOTREADY with their containers' exits, and that removal leaves
 * nothing.
 */
export async function checkPodsEnded(machine: Machine, wanted?: number): Promise<number> {
  const crictl = crictlOf(machine);
  const pods = at(await crictl.json("pods", "--output", "json"), "items");
  assert(Array.isArray(pods));
  if (wanted !== undefined) assert.equal(pods.length, wanted, "pods after the boot");
  for (const pod of pods) assert.equal(at(pod, "state"), "SANDBOX_NOTREADY", JSON.stringify(pod));
  const ids = (await crictl.run("ps", "--all", "--quiet")).split("\n").filter((id) => id !== "");
  // crictl prints a list only for several IDs.
  const inspected = ids.length === 0 ? [] : [await crictl.json("inspect", ...ids)].flat();
  assert.equal(inspected.length, ids.length);
  for (const each of inspected) {
    const status = at(each, "status");
    // A container whose start the power cut prevented has no exit.
    if (at(status, "state") === "CONTAINER_CREATED") continue;
    assert.equal(at(status, "state"), "CONTAINER_EXITED", JSON.stringify(status));
    assert(Number(at(status, "exitCode")) !== 0 && at(status, "reason") !== "", JSON.stringify(status));
    assert(Date.parse(String(at(status, "finishedAt"))) > 0, JSON.stringify(status));
  }
  if (pods.length > 0) await crictl.run("rmp", ...pods.map((pod) => String(at(pod, "id"))));
  let left = "";
  await until("leases, cgroups and directories of the pods are removed", 60_000, async () => {
    left = await machine.run(`
      cd ${leases}/keelson 2>/dev/null && ls -ld * | grep -v -e lock -e last_reserved
      cd / && ls -d /run/keelson/pods/* /var/lib/keelson/image/containers/* 2>/dev/null
      true`);
    return left.trim() === "" ? true : undefined;
  }).catch((error: unknown) => {
    throw new Error(`left behind:\n${left}`, { cause: error });
  });
  return pods.length;
}

export async function checkPodStarts({ machine, step }: Node): Promise<void> {
  await step("a pod starts, runs and is removed", async () => {
    const crictl = crictlOf(machine);
    const pod = await runPod(machine, crictl, "again");
    const id = await runContainer(machine, crictl, pod, { name: "main", script: idle });
    assert.equal(await crictl.run("exec", "-s", id, "cat", "/proc/1/comm"), "sh");
    await crictl.run("stopp", pod.id);
    await crictl.run("rmp", pod.id);
    assert.equal(await crictl.run("pods", "--quiet"), "");
  });
}
