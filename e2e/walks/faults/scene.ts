// The setup for faults in steps: a node with an unaffected bystander pod, a registry, and controllable plugins.

import Long from "long";
import { type BuiltImage, busyboxLayer, makeImage, makeLayer, makeTar } from "../../../image/testing/build-image.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "../../../image/testing/wrong-registry.ts";
import type { Lift } from "../../fixtures/hindrances.ts";
import type { PodConfig, TestNode } from "../../fixtures/node.ts";
import { startWildNode, type WildPlugins } from "../../fixtures/wild-plugin.ts";

export interface Scene extends AsyncDisposable {
  readonly node: TestNode;
  readonly plugins: WildPlugins;
  readonly registry: WrongRegistry;
  /** Adds an image with two unique layers and a unique config for each number. */
  image(number: number): Promise<BuiltImage>;
  /** Intercepts requests before the registry answers; undefined: it behaves well. */
  misbehave(how: Interception | undefined): void;
  /** Disagreements that an earlier case has reported. */
  readonly reported: Set<string>;
  /** A container of the unaffected pod. */
  readonly bystander: string;
}

/** The object that a fault applies to. */
export interface Target {
  readonly scene: Scene;
  /** The name of the objects that the case creates. */
  readonly name: string;
  readonly pod: PodConfig;
  /** Empty before RunPodSandbox. */
  readonly podId: string;
  /** Empty before CreateContainer. */
  readonly containerId: string;
}

export interface StepCase {
  readonly operation: "RunPodSandbox" | "CreateContainer" | "StartContainer" | "PullImage";
  /** The step's name in the source. */
  readonly step: string;
  readonly kind: "fail" | "hang";
  /** Fields of the container configuration that the case needs; prepared before the fault. */
  readonly config?: (target: Target) => Promise<object>;
  readonly inject: (target: Target) => Promise<Lift>;
  /** The fault affects one attempt only: the next one succeeds. */
  readonly affectsOneAttempt?: true;
  /** The fault hides the other pods' files too, so that only calls answered from memory can be tested. */
  readonly hidesOthers?: true;
}

export async function openScene(): Promise<Scene> {
  const undo = new AsyncDisposableStack();
  const { node, plugins } = await startWildNode();
  undo.defer(() => node.close());
  try {
    let interception: Interception | undefined;
    const registry = await startWrongRegistry((request, response) => interception?.(request, response) ?? false);
    undo.defer(() => registry.stop());
    const base = await busyboxLayer();
    const pod = node.podConfig("bystander");
    const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
    const bystander = await node.runContainer(pod, podSandboxId, "bystander", "exec sleep 100000");
    return {
      node,
      plugins,
      registry,
      bystander,
      reported: new Set(),
      image: async (number) => {
        // A layer that no earlier case has pulled, so that it has to be fetched.
        const first = makeLayer(makeTar([{ name: `first-${number}`, content: Buffer.alloc(300_000, number % 251) }]));
        const second = makeLayer(makeTar([{ name: `second-${number}`, content: Buffer.alloc(300_000, number % 241) }]));
        const image = makeImage({ layers: [base, first, second], comment: `case ${number}` });
        registry.add(image, `case-${number}`);
        return image;
      },
      misbehave: (how) => {
        interception = how;
      },
      [Symbol.asyncDispose]: () => undo.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

/** Calls to the other pod while a step fails or hangs: from memory, and (unless hidden) through its monitor. */
export async function checkBystander(scene: Scene, hidden: boolean): Promise<string[]> {
  const { client } = scene.node;
  const wrong: string[] = [];
  const timed = async (what: string, limitMs: number, call: () => Promise<unknown>) => {
    const begin = performance.now();
    const words = await call().then(
      () => "",
      (error: unknown) => String(error),
    );
    const ms = Math.round(performance.now() - begin);
    if (words !== "") wrong.push(`meanwhile ${what} failed after ${ms} ms: ${words}`);
    else if (ms > limitMs) wrong.push(`meanwhile ${what} took ${ms} ms`);
  };
  await timed("ListPodSandbox", 1000, () => client.listPodSandbox({}, 5000));
  if (!hidden)
    await timed("another pod's ExecSync", 3000, () =>
      client.execSync({ containerId: scene.bystander, cmd: ["true"], timeout: Long.fromNumber(5) }, 8000),
    );
  return wrong;
}
