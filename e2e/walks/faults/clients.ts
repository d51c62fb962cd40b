// The load: clients that run, use, stop and remove their own pods, and record the daemon's answers in the ledger.

import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { runtime } from "../../../cri/api/generated/messages.js";
import type { CriClient } from "../../fixtures/client.ts";
import type { PodConfig } from "../../fixtures/node.ts";
import { execMark } from "./host-check.ts";
import {
  brokenExit,
  CONTAINER_CREATED,
  CONTAINER_RUNNING,
  type ContainerKind,
  exitOf,
  type KnownContainer,
  type KnownPod,
  type Ledger,
} from "./ledger.ts";
import type { Random } from "./random.ts";

export interface Environment {
  readonly ledger: Ledger;
  /** The client of the current daemon. */
  client(): CriClient;
  readonly image: string;
  podConfig(name: string): PodConfig;
  /** Waits while the clients are paused; false when they must end. */
  readonly gate: Pick<Gate, "pass">;
  /** Called for each answer that no client should get. */
  wrong(sentence: string): void;
  /** True if plugins misbehave, so that pods may fail to start and to stop. */
  readonly wildNetwork: boolean;
  /** Number of answered calls by name, for the summary. */
  readonly answered: Map<string, number>;
}

/** A gate that the load's clients pass before each call. */
export class Gate {
  #open: PromiseWithResolvers<boolean> | undefined;
  #ended = false;

  pass(): Promise<boolean> {
    return this.#open?.promise ?? Promise.resolve(!this.#ended);
  }

  shut(): void {
    this.#open ??= Promise.withResolvers();
  }

  open(): void {
    this.#open?.resolve(true);
    this.#open = undefined;
  }

  end(): void {
    this.#ended = true;
    this.#open?.resolve(false);
    this.#open = undefined;
  }
}

const { NamespaceMode } = runtime.v1;

type Outcome<Value> =
  | { readonly kind: "answered"; readonly value: Value }
  /** Unknown whether it was done. */
  | { readonly kind: "unknown" }
  | { readonly kind: "refused"; readonly code: number; readonly words: string };

/** The connection broke or the deadline expired, which says nothing about the object's state. */
const unanswered: ReadonlySet<number> = new Set([status.UNAVAILABLE, status.CANCELLED, status.DEADLINE_EXCEEDED]);
const containersPerPod = 3;
const callDeadlineMs = 20_000;

/** One client with one pod at a time; ends when the gate ends. */
export async function workOnPods(env: Environment, random: Random, label: string): Promise<void> {
  let pod: KnownPod | undefined;
  for (let number = 0; await env.gate.pass(); ) {
    if (pod === undefined) {
      number += 1;
      pod = newPod(env, `${label}-${number}`, random);
    }
    const tasks = tasksOf(env, random, pod);
    await Promise.all(tasks);
    if (!env.ledger.pods.has(pod)) pod = undefined;
  }
}

function newPod(env: Environment, name: string, random: Random): KnownPod {
  const hostPort = random.between(20_000, 60_000);
  const sharesPids = random.chance(30);
  const config = {
    ...env.podConfig(name),
    portMappings: [{ containerPort: 80, hostPort }],
    linux: { securityContext: { namespaceOptions: { pid: sharesPids ? NamespaceMode.POD : NamespaceMode.CONTAINER } } },
  };
  const pod: KnownPod = {
    config,
    sharesPids,
    id: "",
    state: "asked",
    ip: "",
    monitorKilled: false,
    containers: new Set(),
  };
  env.ledger.pods.add(pod);
  return pod;
}

/** The next tasks for the pod; sometimes several at once. */
function tasksOf(env: Environment, random: Random, pod: KnownPod): Promise<void>[] {
  if (pod.state === "asked") return [runPod(env, random, pod)];
  if (pod.state === "removing") return [removePod(env, pod)];
  if (pod.state === "stopping" || pod.monitorKilled || (pod.state === "ready" && random.chance(6)))
    return [random.chance(70) ? stopPod(env, pod) : removePod(env, pod)];
  if (pod.state === "stopped") return [removePod(env, pod)];
  const containers = [...pod.containers];
  if (containers.length < containersPerPod && random.chance(50)) {
    const made = newContainer(random, pod);
    const other = random.pick(containers);
    return [createContainer(env, made), ...(other === undefined ? [] : [advance(env, random, other)])];
  }
  const first = random.pick(containers);
  const second = random.pick(containers.filter((container) => container !== first));
  if (first === undefined) return [delay(5)];
  return second === undefined || random.chance(50)
    ? [advance(env, random, first)]
    : [advance(env, random, first), advance(env, random, second)];
}

async function runPod(env: Environment, random: Random, pod: KnownPod): Promise<void> {
  const { ledger } = env;
  // Sometimes a client with a short deadline, whose retry must get the pod.
  const limitMs = random.chance(8) ? random.between(5, 120) : callDeadlineMs;
  const outcome = await ask(env, "RunPodSandbox", (client) => client.runPodSandbox({ config: pod.config }, limitMs));
  if (outcome.kind === "unknown") return;
  if (outcome.kind === "answered") {
    pod.id = outcome.value.podSandboxId;
    pod.state = "ready";
    const told = await ask(env, "PodSandboxStatus", (client) => client.podSandboxStatus({ podSandboxId: pod.id }));
    if (told.kind === "answered") pod.ip = told.value.status?.network?.ip ?? "";
    return;
  }
  if (outcome.code === status.ALREADY_EXISTS) {
    // Allowed if a stopped pod of that name is listed; a kubelet removes it.
    const left = await ask(env, "ListPodSandbox", (client) => client.listPodSandbox({}));
    if (left.kind !== "answered") return;
    const same = left.value.items.find(({ metadata }) => metadata?.name === pod.config.metadata.name);
    if (same === undefined)
      env.wrong(`RunPodSandbox answers AlreadyExists for a pod that is not listed: ${outcome.words}`);
    pod.id = same?.id ?? "";
    if (same === undefined) ledger.pods.delete(pod);
    else pod.state = "removing";
    return;
  }
  if (!env.wildNetwork) env.wrong(`RunPodSandbox of ${pod.config.metadata.name}: ${outcome.words}`);
  // The pod may be listed until its cleanup is complete. The next pod gets another name, so remove this one by its
  // name.
  await removeByName(env, pod);
}

async function removeByName(env: Environment, pod: KnownPod): Promise<void> {
  const left = await ask(env, "ListPodSandbox", (client) => client.listPodSandbox({}));
  if (left.kind !== "answered") return;
  const same = left.value.items.find(({ metadata }) => metadata?.name === pod.config.metadata.name);
  if (same === undefined) env.ledger.pods.delete(pod);
  else {
    pod.id = same.id ?? "";
    pod.state = "removing";
  }
}

async function stopPod(env: Environment, pod: KnownPod): Promise<void> {
  pod.state = "stopping";
  const outcome = await ask(env, "StopPodSandbox", (client) => client.stopPodSandbox({ podSandboxId: pod.id }));
  if (outcome.kind === "answered") pod.state = "stopped";
  if (outcome.kind === "refused" && !env.wildNetwork) env.wrong(`StopPodSandbox of ${pod.id}: ${outcome.words}`);
}

async function removePod(env: Environment, pod: KnownPod): Promise<void> {
  pod.state = "removing";
  const outcome = await ask(env, "RemovePodSandbox", (client) => client.removePodSandbox({ podSandboxId: pod.id }));
  if (outcome.kind === "answered") env.ledger.pods.delete(pod);
  if (outcome.kind === "refused" && !env.wildNetwork) env.wrong(`RemovePodSandbox of ${pod.id}: ${outcome.words}`);
}

let containerNumber = 0;

function newContainer(random: Random, pod: KnownPod): KnownContainer {
  containerNumber += 1;
  const code = random.between(1, 100);
  // PID 1 of a PID namespace ignores SIGTERM unless it has a handler.
  const ends = pod.sharesPids ? [137, 143] : [137];
  const kinds: readonly ContainerKind[] = [
    { command: "exec sleep 100000", exitCodes: ends, brief: false },
    { command: "trap 'exit 7' TERM; sleep 100000 & wait", exitCodes: [7, ...ends], brief: false },
    { command: `sleep 0.${random.between(1, 9)}; exit ${code}`, exitCodes: [code, ...ends], brief: true },
  ];
  const kind = random.pick(kinds) ?? { command: "exit 1", exitCodes: [1], brief: true };
  const container: KnownContainer = { pod, name: `c${containerNumber}`, kind, id: "", state: "asked", exit: undefined };
  pod.containers.add(container);
  return container;
}

async function createContainer(env: Environment, container: KnownContainer): Promise<void> {
  const { pod, name, kind } = container;
  const config = {
    metadata: { name, attempt: 0 },
    image: { image: env.image },
    command: ["sh", "-c", kind.command],
    logPath: `${pod.config.metadata.name}-${name}.log`,
    linux: {},
  };
  const outcome = await ask(env, "CreateContainer", (client) =>
    client.createContainer({ podSandboxId: pod.id, sandboxConfig: pod.config, config }),
  );
  if (outcome.kind === "answered") {
    container.id = outcome.value.containerId;
    container.state = "created";
  }
  if (outcome.kind === "refused") refused(env, container, "CreateContainer", outcome.words);
}

/** Takes the container one step through its life, or checks its status. */
async function advance(env: Environment, random: Random, container: KnownContainer): Promise<void> {
  switch (container.state) {
    case "asked":
      return await createContainer(env, container);
    case "created":
      return await startContainer(env, container);
    case "starting":
      return await recheck(env, container);
    case "running": {
      const fate = random.between(0, 99);
      if (fate < 45 && !container.kind.brief) return await exec(env, random, container);
      if (fate < 65) return await check(env, container);
      if (fate < 80) return await stopContainer(env, random, container);
      if (fate < 90) {
        // An exec in a container that is being stopped may return anything, but its process must not leak.
        await Promise.all([
          stopContainer(env, random, container),
          ask(env, "ExecSync", (client) =>
            client.execSync({ containerId: container.id, cmd: ["sleep", execMark], timeout: Long.fromNumber(1) }),
          ),
        ]);
        return;
      }
      return await removeContainer(env, container);
    }
    case "stopping":
      return await stopContainer(env, random, container);
    case "stopped":
      return random.chance(40) ? await check(env, container) : await removeContainer(env, container);
    case "removing":
      return await removeContainer(env, container);
  }
}

async function startContainer(env: Environment, container: KnownContainer): Promise<void> {
  container.state = "starting";
  const outcome = await ask(env, "StartContainer", (client) => client.startContainer({ containerId: container.id }));
  if (outcome.kind === "answered") container.state = "running";
  if (outcome.kind === "refused") refused(env, container, "StartContainer", outcome.words);
}

/** Asks for the outcome of a start that was not answered. */
async function recheck(env: Environment, container: KnownContainer): Promise<void> {
  const outcome = await ask(env, "ContainerStatus", (client) => client.containerStatus({ containerId: container.id }));
  if (outcome.kind === "refused") return refused(env, container, "ContainerStatus", outcome.words);
  if (outcome.kind === "unknown") return;
  const state = outcome.value.status?.state;
  if (state === CONTAINER_CREATED) container.state = "created";
  else container.state = state === CONTAINER_RUNNING ? "running" : "stopped";
}

async function check(env: Environment, container: KnownContainer): Promise<void> {
  const outcome = await ask(env, "ContainerStatus", (client) => client.containerStatus({ containerId: container.id }));
  if (outcome.kind === "refused") return refused(env, container, "ContainerStatus", outcome.words);
  if (outcome.kind === "unknown" || container.pod.monitorKilled) return;
  const label = `container ${container.name} ${container.id} (${container.state})`;
  for (const sentence of brokenExit(container, exitOf(outcome.value.status), label)) env.wrong(sentence);
}

async function exec(env: Environment, random: Random, container: KnownContainer): Promise<void> {
  const code = random.between(0, 100);
  const cmd = random.chance(80) ? ["sh", "-c", `echo told; exit ${code}`] : ["sleep", execMark];
  const isLong = cmd[0] === "sleep";
  const outcome = await ask(env, "ExecSync", (client) =>
    client.execSync({ containerId: container.id, cmd, timeout: Long.fromNumber(isLong ? 1 : 15) }),
  );
  if (isLong || outcome.kind === "unknown" || container.pod.monitorKilled) return;
  if (outcome.kind === "refused") return refused(env, container, "ExecSync", outcome.words);
  const { exitCode, stdout } = outcome.value;
  if (exitCode !== code || Buffer.from(stdout).toString() !== "told\n")
    env.wrong(`ExecSync in ${container.id} returned ${exitCode} "${Buffer.from(stdout)}" instead of ${code} "told"`);
}

async function stopContainer(env: Environment, random: Random, container: KnownContainer): Promise<void> {
  container.state = "stopping";
  const timeout = container.kind.exitCodes.includes(7) ? random.between(0, 5) : random.between(0, 1);
  const outcome = await ask(env, "StopContainer", (client) =>
    client.stopContainer({ containerId: container.id, timeout: Long.fromNumber(timeout) }),
  );
  if (outcome.kind === "answered") {
    container.state = "stopped";
    await check(env, container);
  }
  if (outcome.kind === "refused") refused(env, container, "StopContainer", outcome.words);
}

async function removeContainer(env: Environment, container: KnownContainer): Promise<void> {
  container.state = "removing";
  const outcome = await ask(env, "RemoveContainer", (client) => client.removeContainer({ containerId: container.id }));
  if (outcome.kind === "answered") container.pod.containers.delete(container);
  if (outcome.kind === "refused") refused(env, container, "RemoveContainer", outcome.words);
}

/** Calls may fail only for a pod whose monitor was killed, or that is being stopped. */
function refused(env: Environment, container: KnownContainer, call: string, words: string): void {
  const { pod, name, id, state } = container;
  if (pod.monitorKilled || pod.state !== "ready") return;
  env.wrong(`${call} of container ${name} ${id} (${state}) in pod ${pod.id}: ${words}`);
}

async function ask<Value>(
  env: Environment,
  name: string,
  call: (client: CriClient) => Promise<Value>,
): Promise<Outcome<Value>> {
  try {
    const value = await call(env.client());
    env.answered.set(name, (env.answered.get(name) ?? 0) + 1);
    return { kind: "answered", value };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? Number(error.code) : status.UNKNOWN;
    const words = error instanceof Error ? error.message : String(error);
    if (!unanswered.has(code)) return { kind: "refused", code, words };
    // While the daemon is down, calls fail immediately.
    await delay(10);
    return { kind: "unknown" };
  }
}

/** A client that alternately pulls and removes images. */
export async function workOnImages(env: Environment, random: Random, references: readonly string[]): Promise<void> {
  while (await env.gate.pass()) {
    const reference = random.pick(references) ?? "";
    const pulled = env.ledger.images.get(reference);
    env.ledger.images.delete(reference);
    const image = { image: reference };
    const removing = pulled === true;
    const outcome = removing
      ? await ask(env, "RemoveImage", (client) => client.removeImage({ image }))
      : await ask(env, "PullImage", (client) => client.pullImage({ image }, callDeadlineMs));
    if (outcome.kind === "answered") env.ledger.images.set(reference, !removing);
    if (outcome.kind === "refused")
      env.wrong(`${removing ? "RemoveImage" : "PullImage"} of ${reference}: ${outcome.words}`);
    await delay(random.between(0, 150));
  }
}
