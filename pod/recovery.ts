// Start-up is recovery: from records and what stands in /run to the model. What is found begun, lost or
// without a record is only noted here: tidy.ts takes it down once the daemon serves.

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
import type { ContainerRecord, SandboxRecord } from "./records.ts";
import type { Sandbox } from "./sandbox.ts";
import { containerFromRecord, containerRecord, sandboxFromRecord } from "./sandbox-record.ts";
import { beginStop } from "./sandbox-stop.ts";
import { findStrangers, type Strangers } from "./strangers.ts";

/** How long a start waits for one monitor, and for one look at a pod's network; later answers are heard as well. */
const answerMs = 500;

export interface Recovered {
  readonly sandboxes: Map<string, Sandbox>;
  /** Ids whose records cannot be read. */
  readonly leftAlone: ReadonlySet<string>;
  readonly strangers: Strangers;
  /** Looks at the networks of ready pods that took too long; each resolves to what is missing. */
  readonly inspections: ReadonlyMap<Sandbox, Promise<string | undefined>>;
}

/** Asks all monitors at once, and waits for none longer than `answerMs`. Rejects when records cannot be listed. */
export async function recover(env: Environment, handlers: ReadonlyMap<string, RuntimeHandler>): Promise<Recovered> {
  const { records, damaged, unreadable } = await env.records.load();
  for (const name of damaged)
    env.log("error", `the record ${name} is damaged and was dropped; what it described is taken down`);
  for (const { name, reason } of unreadable)
    env.log("error", `the record ${name} cannot be read, so what it describes is left alone: ${reason}`);

  const leftAlone = new Set(unreadable.map(({ id }) => id));
  const sandboxes = new Map<string, Sandbox>();
  const sandboxRecords = records.filter((record) => record.kind === "sandbox");
  for (const record of sandboxRecords) {
    const handler = handlers.get(record.handler) ?? vanishedHandler(record.handler, handlers.keys());
    const sandbox = sandboxFromRecord(record, handler, env.runDirectory);
    // A start that was cut short is nobody's pod: it is shown only when it cannot be taken back.
    sandbox.visible = record.life !== "starting";
    sandboxes.set(sandbox.id, sandbox);
  }
  const orphans: ContainerRecord[] = [];
  for (const record of records) {
    if (record.kind !== "container") continue;
    const sandbox = sandboxes.get(record.sandboxId);
    if (sandbox === undefined) orphans.push(record);
    else sandbox.containers.set(record.id, containerFromRecord(record, sandbox));
  }
  const inspections = new Map<Sandbox, Promise<string | undefined>>();
  const [strangers] = await Promise.all([
    findStrangers(env, sandboxes, orphans, leftAlone),
    ...sandboxRecords.map(async (record) => {
      const sandbox = sandboxes.get(record.id);
      if (sandbox !== undefined) await reattach(env, sandbox, record, inspections);
    }),
  ]);
  return { sandboxes, leftAlone, strangers, inspections };
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
      // The last of their records may not have got to the disk.
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

/** The pod of an older keelson has no directory of files for its containers, and its monitor mounts none there. */
async function provideFiles(env: Environment, sandbox: Sandbox): Promise<void> {
  const files = join(sandbox.podDirectory, "files");
  if (existsSync(files)) return;
  try {
    await mkdir(files, { mode: 0o711 });
    await writeContainerFiles(sandbox, env.hostResolvConf);
  } catch (error) {
    if (isErrno(error, "EEXIST")) return;
    env.log("warn", `pod sandbox ${sandbox.id}: no further container can start in it: ${String(error)}`);
  }
}

/** Takes the monitor's word for its containers. Undefined when it has ended; one that is slow or frozen has not. */
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
      `pod sandbox ${sandbox.id}: its monitor does not answer, so its last known state stands: ${String(error)}`,
    );
  }
  return monitor;
}

/** The monitor's word goes before the record's: what it does not know is not running. */
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

/** What of the pod's network is not on the host any more; undefined when nothing is missing, or nobody can tell. */
async function inspect(env: Environment, sandbox: Sandbox): Promise<string | undefined> {
  if (!sandbox.ownNetwork) return undefined;
  try {
    return await env.network.inspect(sandbox.id);
  } catch (error) {
    env.log("warn", `pod sandbox ${sandbox.id}: its network could not be looked at: ${String(error)}`);
    return undefined;
  }
}

/** Its addresses may be another pod's by now. */
export async function loseNetwork(env: Environment, sandbox: Sandbox, missing: string): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: it has lost its network and is stopped: ${missing}`);
  await beginStop(env, sandbox);
}
