// The ledger of what the daemon acknowledged to clients, and a check that its answers still agree.
//
// A call that ended without an answer (the daemon was killed, the deadline expired) leaves its object between two
// states; both are allowed until a client retries.

import { status } from "@grpc/grpc-js";
import { runtime } from "../../../cri/api/generated/messages.js";
import type { CriClient } from "../../fixtures/client.ts";
import type { PodConfig } from "../../fixtures/node.ts";

export const { SANDBOX_READY } = runtime.v1.PodSandboxState;
export const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = runtime.v1.ContainerState;

/** `asked`: RunPodSandbox not answered yet. `stopping` and `removing`: requested, not acknowledged. */
export type PodState = "asked" | "ready" | "stopping" | "stopped" | "removing";

export interface KnownPod {
  readonly config: PodConfig & { portMappings: { containerPort: number; hostPort: number }[] };
  /** Its containers share one PID namespace, whose init the monitor starts. */
  readonly sharesPids: boolean;
  /** Empty until it is answered to a client. */
  id: string;
  state: PodState;
  /** From the first status; empty until then. */
  ip: string;
  monitorKilled: boolean;
  readonly containers: Set<KnownContainer>;
}

export type ContainerState = "asked" | "created" | "starting" | "running" | "stopping" | "stopped" | "removing";

export interface KnownContainer {
  readonly pod: KnownPod;
  readonly name: string;
  readonly kind: ContainerKind;
  id: string;
  state: ContainerState;
  /** Its exit, once reported to a client. */
  exit: Exit | undefined;
}

/** `command` is a shell script; `exitCodes` are the allowed exit codes if its monitor is not killed. */
export interface ContainerKind {
  readonly command: string;
  readonly exitCodes: readonly number[];
  /** Exits by itself. */
  readonly brief: boolean;
}

export interface Exit {
  readonly exitCode: number;
  readonly finishedAt: string;
  readonly reason: string;
}

export interface Ledger {
  readonly pods: Set<KnownPod>;
  /**
   * By reference: true after an acknowledged pull, false after an acknowledged removal; absent while a call is
   * pending.
   */
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

/** The daemon's complete state, read with the kubelet's calls; retried if a listed object is removed in between. */
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

/** One sentence for each contradiction to what clients were told. Records the exits in the answers. */
export function brokenPromises(ledger: Ledger, answers: Answers): string[] {
  const known = new Set<string>();
  const broken = [...ledger.pods].flatMap((pod) => brokenOfPod(pod, answers, known));
  const unknown = unknownAmong(answers, known, (pod) => pod.ready);
  const images = [...ledger.images]
    .filter(([reference, pulled]) => answers.images.has(reference) !== pulled)
    .map(
      ([reference, pulled]) =>
        `image ${reference} was ${pulled ? "pulled and is missing" : "removed and still exists"}`,
    );
  return [...broken, ...unknown.map((object) => `${object} is listed, but no client created it`), ...images];
}

/**
 * Listed objects that are not ready and unknown to clients: leftovers of failed requests, listed until they are
 * cleaned up.
 */
export function leftovers(ledger: Ledger, answers: Answers): string[] {
  const known = new Set<string>();
  for (const pod of ledger.pods) brokenOfPod(pod, answers, known);
  return unknownAmong(answers, known, (pod) => !pod.ready).map((object) => `${object} is listed and has no owner`);
}

function unknownAmong(
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

function brokenOfPod(pod: KnownPod, answers: Answers, known: Set<string>): string[] {
  const { name } = pod.config.metadata;
  const ids = pod.id === "" ? [...answers.pods].filter((each) => each[1].name === name).map(([id]) => id) : [pod.id];
  for (const id of ids) known.add(id);
  const label = `pod ${name} ${pod.id}`;
  if (ids.length > 1) return [`${label} is listed ${ids.length} times`];
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
    broken.push(`${label} had the address ${pod.ip} and now reports "${answer.ip}"`);
  for (const container of pod.containers) broken.push(...brokenOfContainer(container, id, answers, known));
  return broken;
}

function brokenOfContainer(container: KnownContainer, podId: string, answers: Answers, known: Set<string>): string[] {
  const { name, pod, state } = container;
  const ids =
    container.id === ""
      ? [...answers.containers].filter((each) => each[1].podId === podId && each[1].name === name).map(([id]) => id)
      : [container.id];
  for (const id of ids) known.add(id);
  const label = `container ${name} ${container.id} (${state}) of pod ${podId}`;
  if (ids.length > 1) return [`${label} is listed ${ids.length} times`];
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

/** An exit must not change once it has been reported, and must be possible for the container. */
export function brokenExit(container: KnownContainer, exit: Exit | undefined, label: string): string[] {
  const told = container.exit;
  if (told !== undefined) {
    const same = exit !== undefined && exit.exitCode === told.exitCode && exit.finishedAt === told.finishedAt;
    return same
      ? []
      : [`${label} exited with ${JSON.stringify(told)} and now reports ${JSON.stringify(exit ?? "no exit")}`];
  }
  if (exit === undefined) return [];
  container.exit = exit;
  const killed = container.pod.monitorKilled ? [255] : [];
  // An unanswered start may have failed.
  const unstarted = container.state === "running" ? [] : [128];
  const possible = [...container.kind.exitCodes, ...killed, ...unstarted];
  if (possible.includes(exit.exitCode)) return [];
  return [`${label} reports the exit ${JSON.stringify(exit)}; possible exit codes are ${possible.join(", ")}`];
}
