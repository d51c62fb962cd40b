// Recovery at start: rebuilds the model from the records and the state in /run. Unfinished or lost pods and resources
// without a record are only noted here: tidy.ts cleans them up once the daemon serves.

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type ContainerRun, isDoneWithin, isErrno, KeelsonError } from "../native/index.ts";
import { phaseOf } from "./container.ts";
import { applyUnseenExit } from "./container-life.ts";
import type { Environment } from "./environment.ts";
import { endContainers } from "./exits.ts";
import { writeContainerFiles } from "./files.ts";
import { type RuntimeHandler, vanishedHandler } from "./handlers.ts";
import { findOrphans, type Orphans } from "./orphans.ts";
import type { ContainerRecord, LoadedRecords, PodName, SandboxRecord } from "./records.ts";
import type { Sandbox } from "./sandbox.ts";
import { containerFromRecord, containerRecord, sandboxFromRecord } from "./sandbox-record.ts";
import { beginStop } from "./sandbox-stop.ts";

/** How long a start waits for each monitor and each network check, in milliseconds. Later answers still count. */
const answerMs = 500;

/** A sandbox or container that nothing may touch, because its record, or one of the same pod, cannot be read. */
export interface LeftAlone {
  readonly reason: string;
  /** Of a sandbox, if it is known. */
  readonly pod?: PodName;
}

export interface Recovered {
  readonly sandboxes: Map<string, Sandbox>;
  /** By the id of the sandbox or container. */
  readonly leftAlone: ReadonlyMap<string, LeftAlone>;
  readonly orphans: Orphans;
  /** Network checks of ready pods that are still running; each resolves to what is missing. */
  readonly inspections: ReadonlyMap<Sandbox, Promise<string | undefined>>;
}

/** Asks all monitors in parallel and waits at most `answerMs` for each. Rejects when records cannot be listed. */
export async function recover(env: Environment, handlers: ReadonlyMap<string, RuntimeHandler>): Promise<Recovered> {
  const { records, damaged, unreadable } = await env.records.load();
  for (const name of damaged)
    env.log("error", `the record ${name} is damaged and was removed; its pod or container is cleaned up`);
  for (const { name, reason } of unreadable)
    env.log("error", `the record ${name} cannot be read, so its pod or container is left untouched: ${reason}`);

  const leftAlone = allLeftAlone(records, unreadable);
  const sandboxes = new Map<string, Sandbox>();
  const sandboxRecords = records.filter((record) => record.kind === "sandbox").filter(({ id }) => !leftAlone.has(id));
  for (const record of sandboxRecords) {
    const handler = handlers.get(record.handler) ?? vanishedHandler(record.handler, handlers.keys());
    const sandbox = sandboxFromRecord(record, handler, env.runDirectory);
    // No client owns the pod of an interrupted start: it is shown only when it cannot be rolled back.
    sandbox.visible = record.life !== "starting";
    sandboxes.set(sandbox.id, sandbox);
  }
  const orphanRecords: ContainerRecord[] = [];
  for (const record of records) {
    if (record.kind !== "container" || leftAlone.has(record.id)) continue;
    const sandbox = sandboxes.get(record.sandboxId);
    if (sandbox === undefined) orphanRecords.push(record);
    else sandbox.containers.set(record.id, containerFromRecord(record, sandbox));
  }
  const inspections = new Map<Sandbox, Promise<string | undefined>>();
  const [orphans] = await Promise.all([
    findOrphans(env, sandboxes, orphanRecords, leftAlone),
    ...sandboxRecords.map(async (record) => {
      const sandbox = sandboxes.get(record.id);
      if (sandbox !== undefined) await reattach(env, sandbox, record, inspections);
    }),
  ]);
  return { sandboxes, leftAlone, orphans, inspections };
}

/** A pod is left alone as a whole: without one of its records, a second container of the same name could be started. */
function allLeftAlone(
  records: LoadedRecords["records"],
  unreadable: LoadedRecords["unreadable"],
): Map<string, LeftAlone> {
  const all = new Map<string, LeftAlone>();
  for (const { id, reason, pod } of unreadable) all.set(id, { reason, ...(pod && { pod }) });
  for (const { name, sandboxId, reason } of unreadable) {
    if (sandboxId === undefined || all.has(sandboxId)) continue;
    const sandbox = records.find((record) => record.kind === "sandbox" && record.id === sandboxId);
    const pod = sandbox?.kind === "sandbox" ? sandbox.config.metadata : undefined;
    all.set(sandboxId, { reason: `the record ${name} of its container: ${reason}`, ...(pod && { pod }) });
  }
  for (const record of records) {
    const sandbox = record.kind === "container" ? all.get(record.sandboxId) : undefined;
    if (sandbox !== undefined) all.set(record.id, { reason: `its pod: ${sandbox.reason}` });
  }
  return all;
}

async function reattach(
  env: Environment,
  sandbox: Sandbox,
  record: SandboxRecord,
  inspections: Map<Sandbox, Promise<string | undefined>>,
): Promise<void> {
  const { monitorPid } = record;
  switch (record.life) {
    case "starting":
      return;
    case "stopped":
      sandbox.setPhase({ life: "stopped" });
      // The records of the last exits may not have reached the disk.
      return await endContainers(env, sandbox);
    case "stopping":
      return sandbox.setPhase({ life: "stopping", monitor: await askMonitor(env, sandbox), monitorPid });
    case "ready": {
      const inspection = inspect(env, sandbox);
      const monitor = await askMonitor(env, sandbox);
      if (monitor === undefined) return sandbox.setPhase({ life: "stopping", monitor, monitorPid });
      sandbox.setPhase({ life: "ready", monitor, monitorPid, ips: record.ips });
      sandbox.setTimeline(record.timeline);
      await provideFiles(env, sandbox);
      if (await isDoneWithin(inspection, answerMs)) {
        const missing = await inspection;
        if (missing !== undefined) await loseNetwork(env, sandbox, missing);
      } else {
        inspections.set(sandbox, inspection);
      }
    }
  }
}

/** Creates the directory for the containers' files if an older keelson started the pod and its monitor mounted none. */
async function provideFiles(env: Environment, sandbox: Sandbox): Promise<void> {
  const files = join(sandbox.podDirectory, "files");
  if (existsSync(files)) return;
  try {
    await mkdir(files, { mode: 0o711 });
    await writeContainerFiles(sandbox, env.hostResolvConf);
  } catch (error) {
    if (isErrno(error, "EEXIST")) return;
    env.log("warn", `pod sandbox ${sandbox.id}: no more containers can start in it: ${String(error)}`);
  }
}

/** Adopts the monitor's view of its containers. Undefined when it has exited; a slow or frozen monitor still counts. */
async function askMonitor(env: Environment, sandbox: Sandbox) {
  const monitor = env.monitors.connect(sandbox.podDirectory);
  try {
    await adopt(env, sandbox, await monitor.state({ timeoutMs: answerMs }));
  } catch (error) {
    if (error instanceof KeelsonError && error.name === "monitorUnreachable") {
      await endContainers(env, sandbox);
      return undefined;
    }
    env.log(
      "warn",
      `pod sandbox ${sandbox.id}: its monitor does not answer, so its last known state is kept: ${String(error)}`,
    );
  }
  return monitor;
}

/** The monitor takes precedence over the record: a container that it does not know is not running. */
async function adopt(env: Environment, sandbox: Sandbox, runs: readonly ContainerRun[]): Promise<void> {
  const byId = new Map(runs.map((run) => [run.id, run]));
  for (const container of sandbox.containers.values()) {
    const run = byId.get(container.id);
    if (container.phase.state === "exited") continue;
    if (run === undefined) {
      applyUnseenExit(env, container);
      continue;
    }
    const phase = phaseOf(run);
    if (isDeepStrictEqual(phase, container.phase)) continue;
    container.setPhase(phase);
    env.records.save(containerRecord(container)).catch((error: unknown) => {
      env.log("warn", `container ${container.id}: its state could not be recorded: ${String(error)}`);
    });
  }
}

/** What is missing of the pod's network on the host; undefined when nothing is missing or the check failed. */
async function inspect(env: Environment, sandbox: Sandbox): Promise<string | undefined> {
  if (!sandbox.ownNetwork) return undefined;
  try {
    return await env.network.inspect(sandbox.id);
  } catch (error) {
    env.log("warn", `pod sandbox ${sandbox.id}: its network could not be checked: ${String(error)}`);
    return undefined;
  }
}

/** Stops the pod, because its addresses may have been assigned to another one. */
export async function loseNetwork(env: Environment, sandbox: Sandbox, missing: string): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id} has lost its network and is being stopped: ${missing}`);
  await beginStop(env, sandbox);
}
