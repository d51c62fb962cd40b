// What clients were told, and whether the daemon's answers still say so.
//
// A call that ended without an answer (the daemon was killed, the deadline expired) leaves its object between two
// states; both are allowed until a client asks again.

import { status } from "@grpc/grpc-js";
import { runtime } from "../../../cri/api/generated/messages.js";
import type { CriClient } from "../../fixtures/client.ts";
import type { PodConfig } from "../../fixtures/node.ts";

export const { SANDBOX_READY } = runtime.v1.PodSandboxState;
export const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = runtime.v1.ContainerState;

/** `asked`: RunPodSandbox without an answer yet. `stopping` and `removing`: asked for, not acknowledged. */
export type PodState = "asked" | "ready" | "stopping" | "stopped" | "removing";

export interface ToldPod {
  readonly config: PodConfig & { portMappings: { containerPort: number; hostPort: number }[] };
  /** Its containers share one PID namespace, whose init is the monitor's. */
  readonly sharesPids: boolean;
  /** Empty until a client was told. */
  id: string;
  state: PodState;
  /** As the first status said; empty until then. */
  ip: string;
  monitorKilled: boolean;
  readonly containers: Set<ToldContainer>;
}

export type ContainerState = "asked" | "created" | "starting" | "running" | "stopping" | "stopped" | "removing";

export interface ToldContainer {
  readonly pod: ToldPod;
  readonly name: string;
  readonly kind: ContainerKind;
  id: string;
  state: ContainerState;
  /** How it ended, once a client was told. */
  exit: Exit | undefined;
}

/** `command` are shell lines; `exitCodes` are those that it may end with while nobody kills its monitor. */
export interface ContainerKind {
  readonly command: string;
  readonly exitCodes: readonly number[];
  /** Ends by itself. */
  readonly brief: boolean;
}

export interface Exit {
  readonly exitCode: number;
  readonly finishedAt: string;
  readonly reason: string;
}

export interface Ledger {
  readonly pods: Set<ToldPod>;
  /** By reference: true when a pull was acknowledged, false when a removal was; absent between the two. */
  readonly images: Map<string, boolean>;
}

export interface Answers {
  readonly pods: ReadonlyMap<string, { readonly ready: boolean; readonly name: string; readonly ip: string }>;
  readonly containers: ReadonlyMap<string, AnsweredContainer>;
  readonly images: ReadonlySet<string>;
}

export interface AnsweredContainer {
  readonly podId: string;
  readonly name: string;
  readonly state: number;
  readonly exit: Exit | undefined;
}

/** Everything the daemon says, by the calls that the kubelet makes; asked again when something listed goes meanwhile. */
export async function askAll(client: CriClient): Promise<Answers> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await askOnce(client);
    } catch (error) {
      const isGone = error instanceof Error && "code" in error && error.code === status.NOT_FOUND;
      if (!isGone || tries === 10) throw error;
    }
  }
}

async function askOnce(client: CriClient): Promise<Answers> {
  const [{ items }, { containers }, { images }] = await Promise.all([
    client.listPodSandbox({}),
    client.listContainers({}),
    client.listImages({}),
  ]);
  const podStatuses = await Promise.all(items.map(({ id }) => client.podSandboxStatus({ podSandboxId: id ?? "" })));
  const containerStatuses = await Promise.all(
    containers.map(({ id }) => client.containerStatus({ containerId: id ?? "" })),
  );
  return {
    pods: new Map(
      podStatuses.map(({ status }) => [
        status?.id ?? "",
        {
          ready: status?.state === SANDBOX_READY,
          name: status?.metadata?.name ?? "",
          ip: status?.network?.ip ?? "",
        },
      ]),
    ),
    containers: new Map(
      containerStatuses.map(({ status }, index) => [
        status?.id ?? "",
        {
          podId: containers[index]?.podSandboxId ?? "",
          name: status?.metadata?.name ?? "",
          state: status?.state ?? -1,
          exit: exitOf(status),
        },
      ]),
    ),
    images: new Set(images.flatMap(({ repoTags }) => repoTags ?? [])),
  };
}

export function exitOf(status: runtime.v1.IContainerStatus | null | undefined): Exit | undefined {
  if (status?.state !== CONTAINER_EXITED) return undefined;
  return {
    exitCode: status.exitCode ?? 0,
    finishedAt: String(status.finishedAt ?? 0),
    reason: status.reason ?? "",
  };
}

/** One sentence for each thing that is not as a client was told. Notes the ends that the answers tell. */
export function brokenPromises(ledger: Ledger, answers: Answers): string[] {
  const known = new Set<string>();
  const broken = [...ledger.pods].flatMap((pod) => brokenOfPod(pod, answers, known));
  const strangers = strangersAmong(answers, known, (pod) => pod.ready);
  const images = [...ledger.images]
    .filter(([reference, pulled]) => answers.images.has(reference) !== pulled)
    .map(([reference, pulled]) => `image ${reference} was ${pulled ? "pulled and is gone" : "removed and is there"}`);
  return [...broken, ...strangers.map((stranger) => `${stranger} is listed, and no client made it`), ...images];
}

/** What is listed, not ready, and no client's: what a refused request left, there for the kubelet to see until it is gone. */
export function leftovers(ledger: Ledger, answers: Answers): string[] {
  const known = new Set<string>();
  for (const pod of ledger.pods) brokenOfPod(pod, answers, known);
  return strangersAmong(answers, known, (pod) => !pod.ready).map((stranger) => `${stranger} is listed and nobody's`);
}

function strangersAmong(
  answers: Answers,
  known: ReadonlySet<string>,
  counts: (pod: { readonly ready: boolean }) => boolean,
): string[] {
  const pods = [...answers.pods].filter(([id, pod]) => !known.has(id) && counts(pod));
  const containers = [...answers.containers].filter(([id, { podId }]) => {
    const pod = answers.pods.get(podId);
    return !known.has(id) && pod !== undefined && counts(pod);
  });
  return [
    ...pods.map(([id, { name }]) => `pod ${name} ${id}`),
    ...containers.map(([id, { name }]) => `container ${name} ${id}`),
  ];
}

function brokenOfPod(pod: ToldPod, answers: Answers, known: Set<string>): string[] {
  const { name } = pod.config.metadata;
  const ids = pod.id === "" ? [...answers.pods].filter((each) => each[1].name === name).map(([id]) => id) : [pod.id];
  for (const id of ids) known.add(id);
  const label = `pod ${name} ${pod.id}`;
  if (ids.length > 1) return [`${label} is there ${ids.length} times`];
  const [id = ""] = ids;
  const answer = answers.pods.get(id);
  const broken: string[] = [];
  if (answer === undefined) {
    if (pod.state === "ready" || pod.state === "stopped" || pod.state === "stopping")
      broken.push(`${label} is not listed; the client knows it as ${pod.state}`);
    return broken;
  }
  if (pod.state === "ready" && !pod.monitorKilled && !answer.ready) broken.push(`${label} was ready and is not`);
  if (pod.state === "stopped" && answer.ready) broken.push(`${label} was stopped and is ready`);
  if (pod.ip !== "" && answer.ready && answer.ip !== pod.ip)
    broken.push(`${label} had the address ${pod.ip} and says "${answer.ip}"`);
  for (const container of pod.containers) broken.push(...brokenOfContainer(container, id, answers, known));
  return broken;
}

function brokenOfContainer(container: ToldContainer, podId: string, answers: Answers, known: Set<string>): string[] {
  const { name, pod, state } = container;
  const ids =
    container.id === ""
      ? [...answers.containers].filter((each) => each[1].podId === podId && each[1].name === name).map(([id]) => id)
      : [container.id];
  for (const id of ids) known.add(id);
  const label = `container ${name} ${container.id} (${state}) of pod ${podId}`;
  if (ids.length > 1) return [`${label} is there ${ids.length} times`];
  const answer = answers.containers.get(ids[0] ?? "");
  const podGoes = pod.state === "removing";
  if (answer === undefined)
    return state === "asked" || state === "removing" || podGoes ? [] : [`${label} is not listed`];
  const podStays = pod.state === "ready" && !pod.monitorKilled;
  const broken: string[] = [];
  if (state === "created" && answer.state !== CONTAINER_CREATED && podStays)
    broken.push(`${label} was created and is in state ${answer.state}`);
  if (state === "running" && podStays && !container.kind.brief && answer.state !== CONTAINER_RUNNING)
    broken.push(`${label} was running and is in state ${answer.state}`);
  if (state === "stopped" && answer.state !== CONTAINER_EXITED && answer.state !== CONTAINER_CREATED)
    broken.push(`${label} was stopped and is in state ${answer.state}`);
  broken.push(...brokenExit(container, answer.exit, label));
  return broken;
}

/** An end that was told once stays as it was told; an end is one that the container can have had. */
export function brokenExit(container: ToldContainer, exit: Exit | undefined, label: string): string[] {
  const told = container.exit;
  if (told !== undefined) {
    const same = exit !== undefined && exit.exitCode === told.exitCode && exit.finishedAt === told.finishedAt;
    return same ? [] : [`${label} ended with ${JSON.stringify(told)} and now says ${JSON.stringify(exit ?? "no end")}`];
  }
  if (exit === undefined) return [];
  container.exit = exit;
  const killed = container.pod.monitorKilled ? [255] : [];
  // A start that no client was told of may have failed.
  const unstarted = container.state === "running" ? [] : [128];
  const possible = [...container.kind.exitCodes, ...killed, ...unstarted];
  if (possible.includes(exit.exitCode)) return [];
  return [`${label} says it ended with ${JSON.stringify(exit)}; possible are ${possible.join(", ")}`];
}
