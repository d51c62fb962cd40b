// The lifecycle of one pod: sandbox, init containers and sidecars in order, containers, and teardown.
//
// A lost sandbox is replaced, and the pod starts over in it, as with a kubelet.

import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { isDoneWithin, orAborted } from "../../native/index.ts";
import type { runtime } from "../api/generated/messages.js";
import {
  type ContainerExit,
  ContainerWorker,
  type Home,
  type RestartPolicy,
  type WorkerContext,
} from "./container-worker.ts";
import { isNotFound, isUnreachable, sentenceOf } from "./cri-client.ts";
import { environmentOf } from "./environment.ts";
import type { PodFacts } from "./field-path.ts";
import type { Manifest, PodTemplate } from "./manifest.ts";
import { hostsFile } from "./name-files.ts";
import {
  containerConfig,
  graceSecondsOf,
  hostnameOf,
  logDirectory,
  type PodIdentity,
  sandboxConfig,
} from "./pod-config.ts";
import type { Container, PodSpec } from "./supported.ts";
import { removeFiles } from "./take-down.ts";
import { type PreparedVolume, prepareVolumes } from "./volumes.ts";
import { sleep, timerMs } from "./wait.ts";

const retryMs = 10_000;
/** The kubelet's minimum grace period. */
const leastGraceSeconds = 2;
/** How long to wait for a runtime that does not answer during teardown. */
const unreachableMs = 10_000;
/** How long to wait for the exit codes of stopped containers. */
const settleMs = 5_000;

export type Phase = "Pending" | "Running" | "Succeeded" | "Failed";

/** Why a pod ends before its containers exit; "Deleted" if the user stopped it. */
type EndReason = "Deleted" | "DeadlineExceeded" | "BackoffLimitExceeded";

class PodEnding extends Error {
  /** "Ended": all of its containers except sidecars have exited. */
  readonly reason: EndReason | "Ended";

  constructor(reason: EndReason | "Ended") {
    super(reason);
    this.reason = reason;
  }
}

class SandboxLost extends Error {}

export interface PodOptions {
  readonly identity: Omit<PodIdentity, "uid">;
  readonly template: PodTemplate;
  readonly restartPolicy: RestartPolicy;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
  /** Called at each restart of a container. */
  readonly onRestart: () => void;
}

export class PodWorker {
  readonly identity: PodIdentity;
  /** The reason for a failure. */
  reason = "";
  readonly #options: PodOptions;
  readonly #spec: PodSpec;
  readonly #context: WorkerContext;
  readonly #init: readonly ContainerWorker[];
  readonly #main: readonly ContainerWorker[];
  readonly #ending = new AbortController();
  readonly #hurry = new AbortController();
  #final: "Succeeded" | "Failed" | undefined;
  readonly #runs: Promise<unknown>[] = [];
  /** Created once, even if the sandbox is replaced. */
  readonly #volumes = new Map<string, PreparedVolume>();
  #sandboxId: string | undefined;

  constructor(options: PodOptions, context: WorkerContext) {
    this.#options = options;
    this.#spec = options.template.spec;
    this.#context = context;
    this.identity = { ...options.identity, uid: randomUUID() };
    const worker = (container: Container) => new ContainerWorker(container, this.identity, context, options.onRestart);
    this.#init = (this.#spec.initContainers ?? []).map(worker);
    this.#main = this.#spec.containers.map(worker);
  }

  /** A container that never started keeps its pod pending. */
  get phase(): Phase {
    return this.#final ?? (this.#main.every(({ everStarted }) => everStarted) ? "Running" : "Pending");
  }

  get workers(): readonly ContainerWorker[] {
    return [...this.#init, ...this.#main];
  }

  /** Runs until all of its containers have exited permanently, or `end` was called; then stops its sandbox. */
  async run(): Promise<void> {
    const { activeDeadlineSeconds } = this.#spec;
    const deadline =
      activeDeadlineSeconds === undefined
        ? undefined
        : setTimeout(() => this.end("DeadlineExceeded"), timerMs(activeDeadlineSeconds * 1000));
    try {
      for (let attempt = 0; !(await this.#runInSandbox(attempt)); attempt++);
    } catch (error) {
      if (!(error instanceof PodEnding)) throw error;
      if (error.reason !== "Deleted") this.#conclude("Failed", error.reason);
    } finally {
      clearTimeout(deadline);
    }
    this.#say(this.#final === undefined ? "ending" : [this.phase, this.reason].join(" ").trim());
    // Its sidecars must not be restarted.
    this.#ending.abort(new PodEnding("Ended"));
    await this.#stop();
  }

  /** Stops it with its grace period. */
  end(reason: EndReason): void {
    this.#ending.abort(new PodEnding(reason));
  }

  /** Kills what is still stopping. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** Removes everything that belongs to the pod; called after `run`. */
  async remove(): Promise<void> {
    const { cri } = this.#context;
    // Not only the known sandbox: the response to a RunPodSandbox may have been lost.
    const labelSelector = { "io.kubernetes.pod.uid": this.identity.uid };
    await this.#persist(async () => {
      const { items } = await cri.listPodSandbox({ filter: { labelSelector } });
      await Promise.all(items.map(async ({ id }) => await cri.removePodSandbox({ podSandboxId: id ?? "" })));
    });
    await removeFiles(this.#context.host, this.identity.directory);
  }

  /** True if the pod has finished by itself; false if its sandbox was lost and must be replaced. */
  async #runInSandbox(attempt: number): Promise<boolean> {
    const home = await this.#createHome(attempt);
    const lost = new AbortController();
    this.#context.view.sandboxEnd(home.sandboxId).then(
      () => lost.abort(new SandboxLost()),
      () => undefined,
    );
    try {
      await this.#runContainers(home, AbortSignal.any([this.#ending.signal, lost.signal]));
      return true;
    } catch (error) {
      if (!(error instanceof SandboxLost)) throw error;
      this.#say("its sandbox was lost");
      await this.#persist(async () => await this.#context.cri.stopPodSandbox({ podSandboxId: home.sandboxId }));
      await this.#settle();
      if (this.#options.restartPolicy !== "Never") return false;
      this.#conclude("Failed", "SandboxLost");
      return true;
    }
  }

  async #runContainers(home: Home, ending: AbortSignal): Promise<void> {
    const policy = this.#options.restartPolicy;
    for (const worker of this.#init) {
      if (isSidecar(worker)) {
        this.#run(worker, home, "Always", ending).catch(() => undefined);
        await started(worker, ending);
        continue;
      }
      const { exitCode } = await this.#run(worker, home, policy === "Always" ? "OnFailure" : policy, ending);
      if (exitCode !== 0) {
        this.#conclude("Failed", "");
        return;
      }
    }
    const unfinished = this.#main.filter(
      ({ exit }) => exit === undefined || exit.exitCode !== 0 || policy === "Always",
    );
    const runs: Promise<ContainerExit>[] = [];
    for (const worker of unfinished) {
      const run = this.#run(worker, home, policy, ending);
      runs.push(run);
      // In order, as in a kubelet, which does not wait for a container that cannot start.
      await Promise.race([worker.tried.wait(ending), run]);
    }
    await Promise.all(runs);
    const failed = this.#main.some(({ exit }) => exit?.exitCode !== 0);
    this.#conclude(failed ? "Failed" : "Succeeded", "");
  }

  /** Rejects as soon as the signal aborts; `#settle` waits for what is still running then. */
  async #run(worker: ContainerWorker, home: Home, policy: RestartPolicy, ending: AbortSignal): Promise<ContainerExit> {
    const running = worker.run(home, policy, ending);
    this.#runs.push(running);
    return await orAborted(running, ending);
  }

  /** Waits until stopped containers have their exit codes, unless the runtime is unreachable. */
  async #settle(): Promise<void> {
    await isDoneWithin(Promise.allSettled(this.#runs.splice(0)), settleMs);
  }

  #conclude(phase: "Succeeded" | "Failed", reason: string): void {
    this.#final = phase;
    this.reason = reason;
  }

  async #createHome(attempt: number): Promise<Home> {
    const { cri } = this.#context;
    for (;;) {
      try {
        await this.#prepare();
        const config = await sandboxConfig(this.identity, this.#options.template, attempt);
        await this.#removeSandbox();
        this.#ending.signal.throwIfAborted();
        const runtimeHandler = this.#spec.runtimeClassName ?? "";
        const { podSandboxId } = await cri.runPodSandbox({ config, runtimeHandler }, { signal: this.#hurry.signal });
        this.#sandboxId = podSandboxId;
        this.#ending.signal.throwIfAborted();
        return await this.#furnish(podSandboxId, config);
      } catch (error) {
        this.#ending.signal.throwIfAborted();
        this.#say(`could not be set up: ${sentenceOf(error)}`);
        await sleep(isUnreachable(error) ? 1000 : retryMs, this.#ending.signal);
      }
    }
  }

  async #prepare(): Promise<void> {
    const { directory, namespace } = this.identity;
    await mkdir(logDirectory(this.identity), { recursive: true, mode: 0o700 });
    const { manifest } = this.#options;
    await prepareVolumes(this.#spec, { directory, namespace, manifest, signal: this.#ending.signal }, this.#volumes);
  }

  /** Removes the previous sandbox; a pod has one. */
  async #removeSandbox(): Promise<void> {
    if (this.#sandboxId !== undefined) await this.#context.cri.removePodSandbox({ podSandboxId: this.#sandboxId });
    this.#sandboxId = undefined;
  }

  async #furnish(sandboxId: string, config: runtime.v1.PodSandboxConfig.$Properties): Promise<Home> {
    const volumes = this.#volumes;
    const facts = await this.#facts(sandboxId);
    const hosts = join(this.identity.directory, "etc-hosts");
    await writeFile(hosts, await hostsFile(this.#spec, hostnameOf(this.identity, this.#spec), facts.podIps), {
      mode: 0o644,
    });
    const { template, manifest } = this.#options;
    return {
      sandboxId,
      sandboxConfig: config,
      podIp: facts.podIps[0] ?? "",
      graceSeconds: graceSecondsOf(this.#spec),
      imagesOf: (container) => imagesOf(container, volumes),
      literalsOf: (container) =>
        environmentOf(
          { ...container, envFrom: [], env: (container.env ?? []).filter(({ valueFrom }) => valueFrom === undefined) },
          { facts, template, manifest },
        ),
      configOf: (container, restartCount, images) =>
        containerConfig({
          pod: this.identity,
          spec: this.#spec,
          container,
          restartCount,
          environment: { facts, template, manifest },
          volumes,
          hostsFile: hosts,
          imageOf: (reference) => images.get(reference)?.id ?? reference,
          imageUser: images.get(container.image ?? "") ?? { uid: undefined, username: "" },
        }),
    };
  }

  async #facts(podSandboxId: string): Promise<PodFacts> {
    const { namespace, name, uid } = this.identity;
    const { status } = await this.#context.cri.podSandboxStatus({ podSandboxId });
    const hostIps = hostAddresses();
    const network = status?.network;
    const podIps = this.#spec.hostNetwork
      ? hostIps
      : [network?.ip ?? "", ...(network?.additionalIps ?? []).map(({ ip }) => ip ?? "")];
    return { name, namespace, uid, nodeName: hostname(), hostIps, podIps: podIps.filter((ip) => ip !== "") };
  }

  /** Stops containers first, then sidecars in reverse order, then the sandbox. */
  async #stop(): Promise<void> {
    const podSandboxId = this.#sandboxId;
    if (podSandboxId === undefined) return;
    const grace = graceSecondsOf(this.#spec);
    const began = performance.now();
    const stop = async (worker: ContainerWorker) => {
      const left = Math.max(grace - Math.floor((performance.now() - began) / 1000), leastGraceSeconds);
      await this.#persist(async () => await worker.stop(this.#hurry.signal.aborted ? 0 : left));
    };
    const hurried = () => void Promise.allSettled(this.workers.map((worker) => worker.stop(0)));
    this.#hurry.signal.addEventListener("abort", hurried, { once: true });
    await Promise.all(this.workers.filter((worker) => !isSidecar(worker)).map(stop));
    for (const sidecar of this.#init.filter(isSidecar).toReversed()) await stop(sidecar);
    this.#hurry.signal.removeEventListener("abort", hurried);
    await this.#persist(async () => await this.#context.cri.stopPodSandbox({ podSandboxId }));
    await this.#settle();
  }

  /** Retries for a while if the runtime is unreachable; NotFound counts as success. */
  async #persist(call: () => Promise<unknown>): Promise<void> {
    const until = performance.now() + unreachableMs;
    for (;;) {
      try {
        await call();
        return;
      } catch (error) {
        if (isNotFound(error)) return;
        if (!isUnreachable(error) || performance.now() > until) throw error;
        await sleep(1000, this.#context.view.open);
      }
    }
  }

  #say(text: string): void {
    this.#context.report.line(`${this.identity.namespace}/${this.identity.name}`, text);
  }
}

/** Addresses of the external interfaces, or just loopback if there are none. */
function hostAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outward = all.filter(({ internal, scopeid }) => !internal && !scopeid).map(({ address }) => address);
  return outward.length > 0 ? outward : ["127.0.0.1"];
}

function isSidecar({ container }: ContainerWorker): boolean {
  return container.restartPolicy === "Always";
}

/** A restart replaces the latch, so the wait is repeated. */
async function started(worker: ContainerWorker, ending: AbortSignal): Promise<void> {
  while (!worker.started.isOpen) {
    const latch = worker.started;
    await Promise.race([latch.wait(ending), sleep(1000, ending)]);
  }
}

function imagesOf(
  { image = "", imagePullPolicy, volumeMounts = [] }: Container,
  volumes: ReadonlyMap<string, PreparedVolume>,
): ReadonlyMap<string, string | undefined> {
  const images = new Map<string, string | undefined>();
  for (const { name } of volumeMounts) {
    const volume = volumes.get(name);
    if (volume?.kind === "image") images.set(volume.reference, volume.pullPolicy);
  }
  return images.set(image, imagePullPolicy);
}
