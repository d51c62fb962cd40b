// `keelson play --down`: takes down what a play of the same files has started, whether its process is running or dead.

import type { Host } from "../../native/index.ts";
import { connectCri, sentenceOf } from "./cri-client.ts";
import { playErrors } from "./errors.ts";
import { loadManifests, titleOf, type Workload } from "./manifest.ts";
import { answers, type PlayOptions } from "./play.ts";
import { graceSecondsOf } from "./pod-config.ts";
import { removeSandboxes } from "./take-down.ts";
import { sleep } from "./wait.ts";
import { askToEnd, heldElsewhere, lockWorkload, type WorkloadDirectory } from "./workload-directory.ts";

const pollMs = 100;
/** Time in addition to a pod's grace period for its player to take it down. */
const playerMs = 60_000;

export type DownOptions = Omit<PlayOptions, "logs" | "hurry">;

/** Takes down all workloads concurrently; rejects with the first error after all of them are done. */
export async function down({ files, socket, root, host, report, stop }: DownOptions): Promise<void> {
  const { workloads } = await loadManifests(files);
  const cri = connectCri(socket);
  try {
    await answers(cri, socket);
    const all = await Promise.allSettled(
      workloads.map(async (workload) => {
        const directory = await takeOver(host, root, workload, stop);
        try {
          await removeSandboxes(cri, titleOf(workload), graceSecondsOf(workload.template.spec));
        } catch (error) {
          directory.release();
          throw playErrors.notTakenDown({ workloads: titleOf(workload), reason: sentenceOf(error) }, error);
        }
        await directory.remove();
        report.line(titleOf(workload), "down");
      }),
    );
    const failed = all.find((each) => each.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  } finally {
    cri.close();
  }
}

/** A running player is asked to stop, and takes its pods down itself. */
async function takeOver(host: Host, root: string, workload: Workload, stop: AbortSignal): Promise<WorkloadDirectory> {
  const until = performance.now() + graceSecondsOf(workload.template.spec) * 1000 + playerMs;
  for (;;) {
    const directory = await lockWorkload(host, root, workload);
    if (directory !== undefined) return directory;
    if (performance.now() > until) throw heldElsewhere(root, workload);
    await askToEnd(host, root, workload);
    await sleep(pollMs, stop);
  }
}
