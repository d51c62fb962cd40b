// The steps of PullImage in image/store.ts and image/inventory.ts, with the faults for each.

import { join } from "node:path";
import type { Interception } from "../../../image/testing/wrong-registry.ts";
import { catchChild, dead, full, type Lift, readOnly, stopped } from "../../fixtures/hindrances.ts";
import { placesOf } from "../../fixtures/host-view.ts";
import type { Scene, StepCase, Target } from "./scene.ts";

const operation = "PullImage";
const staging = ({ scene }: Target) => join(placesOf(scene.node.directory).image, "staging");
const store = ({ scene }: Target) => placesOf(scene.node.directory).image;

/** The number in a case's name is also its image's number. */
export function imageNumber(name: string): number {
  return Number(/\d+$/.exec(name)?.[0] ?? 0);
}

type Part = "token" | "manifest" | "config" | "layer 1" | "layer 2";

/** Makes the registry misbehave on requests for this part. */
function registry(part: Part, kind: "fail" | "hang" | "lie"): StepCase {
  const inject = async ({ scene, name }: Target): Promise<Lift> => {
    const image = await scene.image(imageNumber(name));
    const [, first, second] = image.layers;
    const paths: Record<Part, string> = {
      token: "/token",
      manifest: "/manifests/",
      config: image.id,
      "layer 1": first?.digest ?? "",
      "layer 2": second?.digest ?? "",
    };
    scene.misbehave(part === "token" ? withToken(scene, kind) : interception(paths[part], kind));
    return async () => scene.misbehave(undefined);
  };
  const step = kind === "lie" ? `registry lies: ${part}` : `registry: ${part}`;
  return { operation, step, kind: kind === "hang" ? "hang" : "fail", inject };
}

function interception(path: string, kind: "fail" | "hang" | "lie"): Interception {
  return ({ url }, response) => {
    if (!url.includes(path)) return false;
    if (kind === "fail") response.writeHead(403).end();
    if (kind === "lie") response.writeHead(200, { "content-type": "application/octet-stream" }).end("another thing");
    // Part of an answer, and then nothing.
    if (kind === "hang") response.writeHead(200, { "content-length": 300_000 }).write("{");
    return true;
  };
}

/** A registry that requires a token, and a token server that does not issue one. */
function withToken(scene: Scene, kind: "fail" | "hang" | "lie"): Interception {
  return ({ url }, response) => {
    if (url.startsWith("/token")) {
      if (kind === "fail") response.writeHead(403).end();
      return true;
    }
    const challenge = `Bearer realm="http://${scene.registry.address}/token",service="steps"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
    return true;
  };
}

/** An unpacker gets a signal; the registry withholds the layers until then. */
function unpacker(signal: "SIGSTOP" | "SIGKILL"): StepCase {
  return {
    operation,
    step: `unpacker gets ${signal}`,
    kind: signal === "SIGSTOP" ? "hang" : "fail",
    affectsOneAttempt: true,
    inject: async ({ scene, name }) => {
      const image = await scene.image(imageNumber(name));
      const { caught, giveUp } = await catchChild(scene.node.daemon.pid, "keelson-unpack", signal);
      scene.misbehave(async ({ url }) => {
        if (image.layers.some(({ digest }) => url.includes(digest))) await caught.catch(() => undefined);
        return false;
      });
      return async () => {
        giveUp();
        scene.misbehave(undefined);
        const pid = await caught;
        if (signal === "SIGSTOP") await stopped(pid)().catch(() => undefined);
      };
    },
  };
}

/** A fault of the disk; the registry behaves well. */
function disk(step: string, kind: "fail" | "hang", inject: StepCase["inject"]): StepCase {
  return {
    operation,
    step,
    kind,
    inject: async (target) => {
      await target.scene.image(imageNumber(target.name));
      return await inject(target);
    },
  };
}

/** Like ext4 after a disk error; it affects the steps after the last layer's download. */
const turnsReadOnly: StepCase = {
  operation,
  step: "placing the layer: the store turns read-only",
  kind: "fail",
  inject: async (target) => {
    const { scene, name } = target;
    const last = (await scene.image(imageNumber(name))).layers.at(-1)?.digest ?? "";
    let turned: Promise<Lift> | undefined;
    scene.misbehave(async ({ url }) => {
      if (url.includes(last)) {
        turned ??= readOnly(store(target));
        await turned;
      }
      return false;
    });
    return async () => {
      scene.misbehave(undefined);
      await (await turned)?.();
    };
  },
};

export const pullSteps: readonly StepCase[] = [
  registry("token", "fail"),
  registry("token", "hang"),
  ...(["manifest", "config", "layer 1", "layer 2"] as const).flatMap((part) => [
    registry(part, "fail"),
    registry(part, "lie"),
    registry(part, "hang"),
  ]),
  unpacker("SIGKILL"),
  unpacker("SIGSTOP"),
  disk("staging directory", "fail", (target) => full(staging(target))),
  disk("staging directory", "hang", (target) => dead(staging(target))),
  turnsReadOnly,
];
