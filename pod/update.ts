// UpdateContainerResources: changes bundle, cgroup and record together or not at all.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno, KeelsonError, messageOf, replaceFile, writeFile } from "../native/index.ts";
import { cgroupProcesses } from "./cgroups.ts";
import type { Container } from "./container.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { containerRecord } from "./sandbox-record.ts";
import { withResources } from "./spec/encode.ts";
import { ociResources } from "./spec/resources.ts";
import { countsSwap, withoutSwap } from "./spec/swap.ts";
import type { CgroupReader } from "./stats/cgroup-reader.ts";
import type { Resources } from "./types.ts";
import { UndoStack } from "./undo.ts";

/** Updates the bundle, and the cgroup if the container is running. */
export async function updateContainer(
  env: Environment,
  reader: CgroupReader,
  container: Container,
  wanted: Resources,
): Promise<void> {
  const { id, phase, sandbox } = container;
  if (phase.state !== "created" && phase.state !== "running") {
    throw podErrors.containerState({ id, state: phase.state, step: "updating it", wanted: "created or running" });
  }
  const before = container.view().resources;
  // A swap limit that came with the memory limit follows it wherever it is now recorded without being counted: on a
  // kernel without swap accounting, and in a stopped pod, which has no cgroup any more.
  const isLimited = countsSwap(env.cgroups, sandbox.cgroup) || (before?.memorySwapLimit ?? 0n) !== 0n;
  const change = isLimited ? withoutSwap(wanted, before) : wanted;
  const after = before === undefined ? change : merged(before, change);
  refuseBadSwap(container, after);
  if (phase.state === "running") await refuseBelowUse(reader, container, change.memoryLimit);

  const undo = new UndoStack(limits.undo);
  try {
    await changeBundle(env, container, after, undo);
    if (phase.state === "running") await changeCgroup(env, container, before, change, undo);
    container.setResources(after);
    await env.records.save(containerRecord(container));
  } catch (error) {
    await undo.unwind();
    container.setResources(before);
    if (error instanceof KeelsonError && error.code !== "Internal") throw error;
    throw podErrors.updateFailed({ id, reason: messageOf(error) }, error);
  }
}

/** Fields that the change leaves unset keep their value. */
function merged(before: Resources, change: Resources): Resources {
  const number = (name: "cpuPeriod" | "cpuQuota" | "cpuShares" | "memoryLimit" | "memorySwapLimit" | "oomScoreAdj") =>
    change[name] === 0n ? before[name] : change[name];
  return {
    cpuPeriod: number("cpuPeriod"),
    cpuQuota: number("cpuQuota"),
    cpuShares: number("cpuShares"),
    memoryLimit: number("memoryLimit"),
    memorySwapLimit: number("memorySwapLimit"),
    oomScoreAdj: number("oomScoreAdj"),
    cpusetCpus: change.cpusetCpus || before.cpusetCpus,
    cpusetMems: change.cpusetMems || before.cpusetMems,
    hugepageLimits: [
      ...before.hugepageLimits.filter(
        ({ pageSize }) => !change.hugepageLimits.some((one) => one.pageSize === pageSize),
      ),
      ...change.hugepageLimits,
    ],
    unified: new Map([...before.unified, ...change.unified]),
  };
}

function refuseBadSwap({ id }: Container, { memoryLimit, memorySwapLimit }: Resources): void {
  if (memorySwapLimit <= 0n || memoryLimit <= 0n || memorySwapLimit >= memoryLimit) return;
  throw podErrors.swapBelowMemory({ id, swap: memorySwapLimit.toString(), limit: memoryLimit.toString() });
}

/** With cgroup v2, the kernel would OOM-kill processes to get below the new limit. */
async function refuseBelowUse(reader: CgroupReader, { id, cgroup }: Container, limit: bigint): Promise<void> {
  if (limit <= 0n) return;
  const [stats] = await reader.read("containers", [cgroup]);
  const used = stats?.memory.workingSetBytes ?? 0n;
  if (used > limit) throw podErrors.memoryBelowUse({ id, used: used.toString(), limit: limit.toString() });
}

async function changeBundle(env: Environment, container: Container, after: Resources, undo: UndoStack): Promise<void> {
  const path = join(container.bundle, "config.json");
  const old = await readFile(path);
  const replace = async (content: Buffer) => await replaceFile(path, content, "nothing");
  undo.push("restore the bundle", async () => await replace(old));
  await replace(withResources(old, ociResources(after), Math.max(Number(after.oomScoreAdj), env.lowestOomScore)));
}

/** The monitor applies cgroup resources all or nothing; OOM scores are set per process. */
async function changeCgroup(
  env: Environment,
  container: Container,
  before: Resources | undefined,
  change: Resources,
  undo: UndoStack,
): Promise<void> {
  const { monitor } = container.sandbox;
  if (monitor === undefined)
    throw podErrors.sandboxNotReady({ id: container.sandbox.id, step: "updating a container" });
  undo.push("restore the cgroup", async () => {
    await monitor.update(container.id, ociResources(reverted(before, change)), { timeoutMs: limits.call });
  });
  await monitor.update(container.id, ociResources(change), { timeoutMs: limits.call });
  if (change.oomScoreAdj !== 0n) await scoreProcesses(env, container, Number(change.oomScoreAdj));
}

/** Limits that were unset before must be reset explicitly: shares to the kernel's default, the others to no limit. */
function reverted(before: Resources | undefined, change: Resources): Resources {
  const lifted = (name: "cpuQuota" | "cpuShares" | "memoryLimit" | "memorySwapLimit", none: bigint) =>
    before?.[name] || (change[name] === 0n ? 0n : none);
  return {
    ...(before ?? change),
    cpuShares: lifted("cpuShares", 1024n),
    cpuQuota: lifted("cpuQuota", -1n),
    memoryLimit: lifted("memoryLimit", -1n),
    memorySwapLimit: lifted("memorySwapLimit", -1n),
  };
}

/**
 * See oom_score_adj in proc(5). Without CAP_SYS_RESOURCE the kernel does not allow lowering a score: this is not an
 * error, but logged once per container.
 */
async function scoreProcesses(env: Environment, container: Container, score: number): Promise<void> {
  let refusal: unknown;
  for (const pid of await cgroupProcesses(env.cgroups, container.cgroup)) {
    await writeFile(`/proc/${pid}/oom_score_adj`, String(score)).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT", "ESRCH")) refusal ??= error;
    });
  }
  if (refusal === undefined || container.scoreRefused) return;
  container.scoreRefused = true;
  env.log("warn", `container ${container.id}: the OOM scores of its processes stay as they are: ${messageOf(refusal)}`);
}
