// `keelson play`: plays all workloads of the files concurrently, in the foreground, and takes down what it started.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type Host, isDoneWithin } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { type Cri, connectCri, isUnreachable, sentenceOf } from "./cri-client.ts";
import { playErrors } from "./errors.ts";
import { Images } from "./images.ts";
import { followLog } from "./logs.ts";
import { loadManifests, type Manifest, titleOf, type Workload } from "./manifest.ts";
import type { PodWorker } from "./pod-worker.ts";
import type { Report } from "./report.ts";
import { RuntimeView } from "./runtime-view.ts";
import { sleep } from "./wait.ts";
import { heldElsewhere, lockWorkload, type WorkloadDirectory } from "./workload-directory.ts";
import { type Outcome, WorkloadRun } from "./workload-run.ts";

const downPollMs = 1_000;
/** How long a stalled reader of the logs may delay the teardown. */
const logsMs = 5_000;

export interface PlayOptions {
  readonly files: readonly string[];
  readonly socket: string;
  /** The daemon's persistent directory: played workloads have their files in `play` there. */
  readonly root: string;
  readonly host: Host;
  readonly report: Report;
  /** Where containers' output is printed; undefined if it is not. */
  readonly logs: NodeJS.WritableStream | undefined;
  /** Aborts to stop everything, with grace periods. */
  readonly stop: AbortSignal;
  /** Aborts to kill everything that is still stopping. */
  readonly hurry: AbortSignal;
}

/** Resolves to true if every workload succeeded, or was running when it was asked to stop. */
export async function play(options: PlayOptions): Promise<boolean> {
  const manifest = await loadManifests(options.files);
  const cri = connectCri(options.socket);
  try {
    await answers(cri, options.socket);
    const directories = await lockAll(options, manifest.workloads);
    return await new Player(options, manifest, cri).play(directories);
  } finally {
    cri.close();
  }
}

/** Rejects with daemonUnreachable if no CRI server answers. */
export async function answers(cri: Pick<Cri, "version">, socket: string): Promise<void> {
  await cri.version({}).catch((error: unknown) => {
    const reason = isUnreachable(error) ? "nothing listens there" : sentenceOf(error);
    throw criErrors.daemonUnreachable({ socket, reason }, error);
  });
}

/** Locks all workloads or none. */
async function lockAll(
  { host, root }: PlayOptions,
  workloads: readonly Workload[],
): Promise<ReadonlyMap<Workload, WorkloadDirectory>> {
  const locked = new Map<Workload, WorkloadDirectory>();
  try {
    for (const workload of workloads) {
      const directory = await lockWorkload(host, root, workload);
      if (directory === undefined) throw heldElsewhere(root, workload);
      locked.set(workload, directory);
    }
    for (const [workload, directory] of locked)
      if (!(await directory.isEmpty())) throw playErrors.leftFromBefore({ workload: titleOf(workload) });
    return locked;
  } catch (error) {
    for (const directory of locked.values()) {
      if (await directory.isEmpty()) await directory.remove();
      else directory.release();
    }
    throw error;
  }
}

class Player {
  readonly #options: PlayOptions;
  readonly #manifest: Manifest;
  readonly #cri: Cri;
  readonly #run = randomUUID();
  readonly #view: RuntimeView;
  readonly #images: Images;
  readonly #notTakenDown = new Map<string, unknown>();

  constructor(options: PlayOptions, manifest: Manifest, cri: Cri) {
    this.#options = options;
    this.#manifest = manifest;
    this.#cri = cri;
    this.#view = new RuntimeView(cri, this.#run, options.report);
    this.#images = new Images(cri, options.report);
  }

  async play(directories: ReadonlyMap<Workload, WorkloadDirectory>): Promise<boolean> {
    const closing = new AbortController();
    const following = this.#view.follow(closing.signal);
    const outcomes = await Promise.all(
      [...directories].map(async ([workload, directory]) => await this.#playOne(workload, directory)),
    );
    closing.abort(new Error("The play is over."));
    await following;
    const [[, reason] = []] = this.#notTakenDown;
    if (this.#notTakenDown.size > 0)
      throw playErrors.notTakenDown({
        workloads: [...this.#notTakenDown.keys()].join(", "),
        reason: sentenceOf(reason),
      });
    return outcomes.every((outcome) => outcome === "Succeeded" || outcome === "Running");
  }

  async #playOne(workload: Workload, directory: WorkloadDirectory): Promise<Outcome> {
    const { stop, hurry, report } = this.#options;
    const over = new AbortController();
    const logs: Promise<void>[] = [];
    const run = new WorkloadRun(
      { workload, manifest: this.#manifest, directory: directory.path, run: this.#run },
      { ...this.#context(), onLog: (about, path, ended) => logs.push(this.#follow(about, path, ended)) },
    );
    const end = () => run.end();
    const hurryUp = () => run.hurry();
    if (stop.aborted) end();
    stop.addEventListener("abort", end, { once: true });
    hurry.addEventListener("abort", hurryUp, { once: true });
    watchForDown(directory, end, over.signal);
    try {
      await run.run();
      await isDoneWithin(Promise.allSettled(logs), logsMs);
      for (const pod of run.pods) report.line(titleOf({ ...pod.identity, kind: "Pod" }), summary(pod));
      await run.remove();
      await directory.remove();
    } catch (error) {
      this.#notTakenDown.set(run.title, error);
      directory.release();
    } finally {
      over.abort();
      stop.removeEventListener("abort", end);
      hurry.removeEventListener("abort", hurryUp);
    }
    return run.outcome;
  }

  #context() {
    const { host, report } = this.#options;
    return { cri: this.#cri, view: this.#view, images: this.#images, report, host };
  }

  async #follow(about: string, path: string, ended: Promise<void>): Promise<void> {
    const { logs } = this.#options;
    if (logs === undefined) return;
    const write = async (bytes: Buffer) => {
      if (!logs.write(bytes)) await once(logs, "drain");
    };
    // A closed output is handled in cri/cli/play.ts.
    await followLog(path, `${about} | `, ended, write).catch(() => undefined);
  }
}

/** Watches until the signal aborts. */
function watchForDown(directory: WorkloadDirectory, onDown: () => void, signal: AbortSignal): void {
  const watch = async () => {
    for (;;) {
      await sleep(downPollMs, signal);
      if (await directory.isUnwanted()) return onDown();
    }
  };
  watch().catch(() => undefined);
}

/** The information that a kubelet would report in the pod's status. */
function summary({ phase, reason, workers }: PodWorker): string {
  const containers = workers.map(({ container, exit, restartCount, waiting, isRunning }) => {
    const state =
      exit !== undefined && !isRunning ? `exit ${exit.exitCode}` : (waiting?.split(":", 1)[0] ?? "never started");
    return `${container.name} ${state}, ${restartCount} restarts`;
  });
  return [`${phase}${reason === "" ? "" : ` (${reason})`}`, ...containers].join("; ");
}
