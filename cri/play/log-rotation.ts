// Keeps containers' logs small while they run: a log that is large becomes <log>.1, in place of the one before, and
// the runtime is asked to begin another.

import { rename, stat } from "node:fs/promises";
import type { Cri } from "./cri-client.ts";
import { sleep } from "./wait.ts";

const sizeLimit = 10 << 20;
const lookMs = 2_000;

/** Until the signal aborts. Never rejects: what fails is tried at the next look. */
export async function rotateLog(
  cri: Pick<Cri, "reopenContainerLog">,
  containerId: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(lookMs, signal).catch(() => undefined);
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size < sizeLimit || signal.aborted) continue;
    await rename(path, `${path}.1`).catch(() => undefined);
    await cri.reopenContainerLog({ containerId }).catch(() => undefined);
  }
}
