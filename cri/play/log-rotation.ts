// Rotates the logs of running containers: a large log is renamed to <log>.1, replacing the previous one, and the
// runtime is asked to reopen the log.

import { rename, stat } from "node:fs/promises";
import type { Cri } from "./cri-client.ts";
import { sleep } from "./wait.ts";

const sizeLimit = 10 << 20;
const pollMs = 2_000;

/** Runs until the signal aborts. Never rejects: a failed rotation is retried at the next check. */
export async function rotateLog(
  cri: Pick<Cri, "reopenContainerLog">,
  containerId: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(pollMs, signal).catch(() => undefined);
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size < sizeLimit || signal.aborted) continue;
    await rename(path, `${path}.1`).catch(() => undefined);
    await cri.reopenContainerLog({ containerId }).catch(() => undefined);
  }
}
