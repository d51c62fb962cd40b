// One object of a manifest while it is played: a Pod is one pod, a Deployment its replicas, and a Job runs pods one
// after another until one succeeds.

import { join } from "node:path";
import { settled } from "../../native/index.ts";
import type { RestartPolicy, WorkerContext } from "./container-worker.ts";
import { type Manifest, titleOf, type Workload } from "./manifest.ts";
import { PodWorker } from "./pod-worker.ts";
import { sleep, timerMs } from "./wait.ts";

/** The Job controller's delay between two pods. */
const firstRetryMs = 10_000;
const longestRetryMs = 360_000;

export type Outcome = "Succeeded" | "Failed" | "Running" | "Pending";

export interface WorkloadOptions {
  readonly workload: Workload;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
  /** The directory of its pods' files. */
  readonly directory: string;
  readonly run: string;
}

export class WorkloadRun {
  readonly workload: Workload;
  /** The current pods; a Job's failed pods are removed. */
  readonly pods = new Set<PodWorker>();
  readonly #options: WorkloadOptions;
  readonly #context: WorkerContext;
  readonly #ending = new AbortController();
  #jobFailed = false;

  constructor(options: WorkloadOptions, context: WorkerContext) {
    this.workload = options.workload;
    this.#options = options;
    this.#context = context;
  }

  get title(): string {
    return titleOf(this.workload);
  }

  /** Runs until all pods have finished by themselves or `end` was called. */
  async run(): Promise<void> {
    const { kind, name, replicas } = this.workload;
    if (kind === "Job") return await this.#runJob();
    const names = kind === "Pod" ? [name] : Array.from({ length: replicas }, (_, index) => `${name}-${index}`);
    await settled(names.map(async (pod) => await this.#pod(pod).run().catch(this.#failed)));
  }

  /** Stops the pods with their grace periods. */
  end(): void {
    this.#ending.abort();
    for (const pod of this.pods) pod.end("Deleted");
  }

  hurry(): void {
    for (const pod of this.pods) pod.hurry();
  }

  /** Removes the pods; called after `run`. */
  async remove(): Promise<void> {
    await settled([...this.pods].map(async (pod) => await pod.remove()));
  }

  get outcome(): Outcome {
    const phases = [...this.pods].map(({ phase }) => phase);
    if (this.#jobFailed || phases.includes("Failed")) return "Failed";
    if (phases.includes("Pending")) return "Pending";
    return phases.every((phase) => phase === "Succeeded") ? "Succeeded" : "Running";
  }

  /** If one pod can no longer be managed, the others are stopped too. */
  readonly #failed = (error: unknown): never => {
    this.end();
    throw error;
  };

  async #runJob(): Promise<void> {
    const { name, backoffLimit, activeDeadlineSeconds } = this.workload;
    const deadline =
      activeDeadlineSeconds === undefined
        ? undefined
        : setTimeout(() => this.#failJob("DeadlineExceeded"), timerMs(activeDeadlineSeconds * 1000));
    try {
      for (let failures = 0; ; failures++) {
        const pod = this.#pod(`${name}-${failures}`);
        await pod.run();
        if (pod.phase === "Succeeded" || this.#ending.signal.aborted) return;
        if (failures >= backoffLimit) return this.#failJob("BackoffLimitExceeded");
        await sleep(Math.min(firstRetryMs * 2 ** failures, longestRetryMs), this.#ending.signal).catch(() => undefined);
        if (this.#ending.signal.aborted) return;
        await pod.remove();
        this.pods.delete(pod);
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  #failJob(reason: "DeadlineExceeded" | "BackoffLimitExceeded"): void {
    this.#jobFailed = true;
    this.#context.report.line(this.title, `Failed (${reason})`);
    this.#ending.abort();
    for (const pod of this.pods) pod.end(reason);
  }

  #pod(name: string): PodWorker {
    const { workload, manifest, directory, run } = this.#options;
    const identity = {
      namespace: workload.namespace,
      name,
      workload: this.title,
      run,
      directory: join(directory, name),
    };
    const pod = new PodWorker(
      {
        identity,
        template: workload.template,
        restartPolicy: restartPolicyOf(workload),
        manifest,
        onRestart: () => this.#checkRestarts(),
      },
      this.#context,
    );
    this.pods.add(pod);
    if (this.#ending.signal.aborted) pod.end("Deleted");
    return pod;
  }

  /** For a Job whose pods restart their containers, those restarts count as failures. */
  #checkRestarts(): void {
    const { kind, backoffLimit } = this.workload;
    if (kind !== "Job") return;
    const restarts = [...this.pods]
      .flatMap(({ workers }) => workers)
      .reduce((sum, { restartCount }) => sum + restartCount, 0);
    if (restarts >= Math.max(backoffLimit, 1)) this.#failJob("BackoffLimitExceeded");
  }
}

function restartPolicyOf({ template }: Workload): RestartPolicy {
  const { restartPolicy } = template.spec;
  return restartPolicy === "OnFailure" || restartPolicy === "Never" ? restartPolicy : "Always";
}
