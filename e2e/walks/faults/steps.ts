// Makes each step of RunPodSandbox, CreateContainer, StartContainer and PullImage fail and hang: the call must end by
// its deadline, other pods must be served in the meantime, the retry must succeed, and nothing may be left behind.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { viewHost } from "../../fixtures/host-view.ts";
import { until } from "../../fixtures/steps.ts";
import { disagreements, execMark } from "./host-check.ts";
import { askAll, CONTAINER_CREATED, CONTAINER_RUNNING, SANDBOX_READY } from "./ledger.ts";
import { checkBystander, openScene, type Scene, type StepCase, type Target } from "./scene.ts";
import { createSteps, startSteps } from "./steps-container.ts";
import { podSteps } from "./steps-pod.ts";
import { imageNumber, pullSteps } from "./steps-pull.ts";

export interface StepRun {
  /** Matches a step's name, "Operation, step: kind". */
  readonly only: RegExp;
  /** Runs one case as a counted step. */
  readonly step: (name: string, work: () => Promise<void>) => Promise<void>;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
  /** The caller's deadline if a step hangs. */
  readonly hangMs: number;
}

/** The deadline of a call with a failing step. */
const failMs = 20_000;
/** The deadline of a retry that cannot succeed. */
const hastyMs = 500;
/** How long after its deadline a call may still return. */
const graceMs = 1_500;
/** After the fault is lifted: the time until a retry succeeds, and until nothing is left behind. */
const settleMs = 20_000;

interface Row {
  readonly step: StepCase;
  readonly result: string;
}

export async function stepRun({ only, step, say, signal, hangMs }: StepRun): Promise<void> {
  const chosen = [...podSteps, ...createSteps, ...startSteps, ...pullSteps].filter((each) => only.test(nameOf(each)));
  const rows: Row[] = [];
  await using scene = await openScene();
  for (const [index, each] of chosen.entries()) {
    signal.throwIfAborted();
    let result = "undone, retry ok";
    await step(nameOf(each), async () => {
      const wrong = await runCase(scene, each, `step-${index}`, hangMs).catch((error: unknown) => [String(error)]);
      if (wrong.length === 0) return;
      result = `NOT: ${wrong.join("; ")}`;
      throw plainError(wrong.join("\n      "));
    }).catch((error: unknown) => {
      if (result === "undone, retry ok") result = `NOT: ${String(error)}`;
    });
    rows.push({ step: each, result });
  }
  print(rows, say);
}

/** Without the stack, which says nothing about the daemon. */
function plainError(message: string): Error {
  const error = new Error(message);
  error.stack = message;
  return error;
}

function nameOf({ operation, step, kind }: StepCase): string {
  return `${operation}, ${step}: ${kind}`;
}

/** step × {fail, hang} → result. */
function print(rows: readonly Row[], say: (line: string) => void): void {
  say("");
  const width = Math.max(...rows.map(({ step }) => step.operation.length + step.step.length + 2));
  const steps = Map.groupBy(rows, ({ step }) => `${step.operation}, ${step.step}`);
  for (const [step, both] of steps) {
    const cell = (kind: "fail" | "hang") =>
      both
        .find((row) => row.step.kind === kind)
        ?.result.split("\n")[0]
        ?.slice(0, 90) ?? "-";
    say(`${step.padEnd(width)}  fail: ${cell("fail")}`);
    say(`${"".padEnd(width)}  hang: ${cell("hang")}`);
  }
}

async function runCase(scene: Scene, each: StepCase, name: string, hangMs: number): Promise<string[]> {
  const logDirectory = join(scene.node.directory, `${name}-logs`);
  await mkdir(logDirectory);
  let target: Target = {
    scene,
    name,
    pod: { ...scene.node.podConfig(name), ...portOf(name), logDirectory },
    podId: "",
    containerId: "",
  };
  const { client } = scene.node;
  if (each.operation === "CreateContainer" || each.operation === "StartContainer")
    target = { ...target, podId: (await client.runPodSandbox({ config: target.pod })).podSandboxId };
  const config = { ...containerConfig(scene), ...(await each.config?.(target)) };
  const create = async (limitMs: number) =>
    await client.createContainer({ podSandboxId: target.podId, sandboxConfig: target.pod, config }, limitMs);
  if (each.operation === "StartContainer") target = { ...target, containerId: (await create(20_000)).containerId };

  const call = async (limitMs: number): Promise<string> => {
    switch (each.operation) {
      case "RunPodSandbox": {
        const metadata = { ...target.pod.metadata, attempt: await nextAttempt(scene, target) };
        return (await client.runPodSandbox({ config: { ...target.pod, metadata } }, limitMs)).podSandboxId;
      }
      case "CreateContainer":
        return (await create(limitMs)).containerId;
      case "StartContainer":
        await client.startContainer({ containerId: target.containerId }, limitMs);
        return target.containerId;
      case "PullImage":
        return (await client.pullImage({ image: { image: imageName(target) } }, limitMs)).imageRef;
    }
  };
  const wrong = await withFault(scene, each, target, call, each.kind === "hang" ? hangMs : failMs);
  wrong.push(...(await retry(scene, each, target, call)));
  wrong.push(...(await checkNothingLeft(scene, each, target)));
  return wrong;
}

/**
 * Like a kubelet, increments the attempt if a pod of that name is listed as not ready, because its undo is incomplete.
 */
async function nextAttempt({ node }: Scene, { name }: Target): Promise<number> {
  const { items } = await node.client.listPodSandbox({});
  const left = items.filter(({ metadata, state }) => metadata?.name === name && state !== SANDBOX_READY);
  return Math.max(-1, ...left.map(({ metadata }) => metadata?.attempt ?? 0)) + 1;
}

const containerConfig = (scene: Scene) => ({
  metadata: { name: "c", attempt: 0 },
  image: { image: scene.node.image },
  command: ["sh", "-c", "exec sleep 100000"],
  logPath: "c.log",
  linux: {},
});

const portOf = (name: string) => ({ portMappings: [{ containerPort: 80, hostPort: 20_000 + imageNumber(name) }] });
const imageName = ({ scene, name }: Target) => `${scene.registry.address}/steps/image:case-${imageNumber(name)}`;

/**
 * Calls with the fault in place: the call must end in time with a clear error, and another pod must not be affected.
 */
async function withFault(
  scene: Scene,
  each: StepCase,
  target: Target,
  call: (limitMs: number) => Promise<string>,
  limitMs: number,
): Promise<string[]> {
  const wrong: string[] = [];
  const lift = await each.inject(target);
  try {
    const begin = performance.now();
    const outcome = call(limitMs).then(
      () => ({ code: status.OK, words: "" }),
      (error: unknown) => ({
        code: error instanceof Error && "code" in error ? Number(error.code) : status.UNKNOWN,
        words: String(error),
      }),
    );
    await delay(300);
    wrong.push(...(await checkBystander(scene, each.hidesOthers === true)));
    const { code, words } = await outcome;
    const tookMs = performance.now() - begin;
    if (code === status.OK) wrong.push("it succeeded: the fault has no effect");
    // Kubelets expect code Unknown and this text if a registry is unavailable.
    const isExplained = code !== status.UNKNOWN || words.includes("RegistryUnavailable: ");
    if (!isExplained || /an unexpected error/.test(words)) wrong.push(`it failed without a reason: ${words}`);
    if (tookMs > limitMs + graceMs) wrong.push(`it returned only after ${Math.round(tookMs)} ms`);
    if (
      each.kind === "hang" &&
      each.affectsOneAttempt !== true &&
      (await call(hastyMs).then(
        () => true,
        () => false,
      ))
    )
      wrong.push("a retry succeeds while the step still hangs");
    if (each.kind === "fail" && code === status.DEADLINE_EXCEEDED)
      wrong.push(`it waited for a step that failed: ${words}`);
  } finally {
    await lift();
  }
  return wrong;
}

/** Retries the request until it succeeds; its result must exist exactly once, and work. */
async function retry(
  scene: Scene,
  { operation }: StepCase,
  target: Target,
  call: (limitMs: number) => Promise<string>,
): Promise<string[]> {
  const { client } = scene.node;
  let words = "";
  const again = async (): Promise<string | undefined> => {
    try {
      if (operation !== "StartContainer") return await call(5_000);
      return await startedAgain(scene, target, call);
    } catch (error) {
      words = String(error);
      return undefined;
    }
  };
  const id = await until("the retry succeeds", settleMs, again).catch(() => undefined);
  if (id === undefined) return [`a retry still fails after ${settleMs} ms: ${words}`];
  const answers = await askAll(client);
  const pods = [...answers.pods.values()].filter(({ name }) => name === target.name);
  const containers = [...answers.containers.values()].filter(({ podId }) => podId === target.podId);
  switch (operation) {
    case "RunPodSandbox":
      return pods.filter(({ ready }) => ready).length === 1 && answers.pods.get(id)?.ready === true
        ? []
        : [
            `the retry's pod ${id} is listed as ${JSON.stringify(answers.pods.get(id))}, of ${pods.length} with its name`,
          ];
    case "CreateContainer": {
      if (containers.length !== 1) return [`the container is listed ${containers.length} times`];
      await client.startContainer({ containerId: id });
      return [];
    }
    case "StartContainer": {
      const { exitCode } = await client.execSync({ containerId: id, cmd: ["true", execMark] });
      return exitCode === 0 && containers.length === 1
        ? []
        : [`${containers.length} containers, exec exited with ${exitCode}`];
    }
    case "PullImage":
      return answers.images.has(imageName(target)) ? [] : ["the image is not listed"];
  }
}

/** Like a kubelet: starts a created container, recreates an exited one under the same name, keeps a running one. */
async function startedAgain(
  scene: Scene,
  target: Target,
  call: (limitMs: number) => Promise<string>,
): Promise<string | undefined> {
  const { client } = scene.node;
  const { containers } = await client.listContainers({ filter: { podSandboxId: target.podId } });
  const [container] = containers;
  const containerId = container?.id ?? "";
  if (container?.state === CONTAINER_RUNNING) return containerId;
  if (container?.state === CONTAINER_CREATED && containerId === target.containerId) return await call(5_000);
  if (container?.state === CONTAINER_CREATED) {
    await client.startContainer({ containerId }, 5_000);
    return containerId;
  }
  if (container !== undefined) await client.removeContainer({ containerId }, 5_000);
  const config = containerConfig(scene);
  await client.createContainer({ podSandboxId: target.podId, sandboxConfig: target.pod, config }, 5_000);
  return undefined;
}

/** Daemon and host must agree; and after the created objects are removed, nothing may be left behind. */
async function checkNothingLeft(scene: Scene, each: StepCase, target: Target): Promise<string[]> {
  const { node } = scene;
  const seen = new Set<string>();
  const agree = async (): Promise<string[]> => {
    const answers = await askAll(node.client);
    for (const id of answers.pods.keys()) seen.add(id);
    const wrong = await disagreements(
      node.directory,
      answers,
      await viewHost(node, node.bridge, seen),
      node.daemon.pid,
    );
    // The bystander has no host port.
    return wrong.filter(
      (sentence) => !sentence.includes("has no rule for its host port") && !scene.reported.has(sentence),
    );
  };
  const agreeSettled = async (): Promise<string[]> => {
    let wrong: string[] = [];
    const calm = async () => {
      wrong = await agree();
      return wrong.length === 0 ? true : undefined;
    };
    await until("the daemon and the host agree", settleMs, calm).catch(() => undefined);
    return wrong;
  };
  const before = await agreeSettled();
  if (each.operation === "PullImage") await node.client.removeImage({ image: { image: imageName(target) } });
  const { items } = await node.client.listPodSandbox({});
  for (const { id, metadata } of items)
    if (metadata?.name === target.name) await node.client.removePodSandbox({ podSandboxId: id ?? "" });
  const after = await agreeSettled();
  // Do not report it again in each later case.
  for (const sentence of after) scene.reported.add(sentence);
  return [
    ...before.map((sentence) => `after the retry: ${sentence}`),
    ...after.map((sentence) => `after the removal: ${sentence}`),
  ];
}
