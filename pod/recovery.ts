// Start-up is recovery: from records and what stands in /run to the model, and away with what belongs to neither.

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type ContainerRun, connectMonitor, type ExitedRun, KeelsonError, parseExited } from "../native/index.ts";
import { recoverCheckpoints } from "./checkpoint.ts";
import { exitedPhase, phaseOf } from "./container.ts";
import { type Environment, limits } from "./environment.ts";
import { type RuntimeHandler, vanishedHandler } from "./handlers.ts";
import type { ContainerRecord, SandboxRecord } from "./records.ts";
import { clearRemains, podDirectories } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { containerFromRecord, containerRecord, sandboxFromRecord, sandboxRecord } from "./sandbox-record.ts";
import { markStopped } from "./sandbox-stop.ts";

/** How long a monitor may take to answer before it counts as frozen (its pod keeps the state on record). */
const answerMs = 2_000;

export async function recover(
  env: Environment,
  handlers: ReadonlyMap<string, RuntimeHandler>,
): Promise<Map<string, Sandbox>> {
  const { records, damaged } = await env.records.load();
  for (const name of damaged)
    env.log("error", `the record ${name} is damaged and was dropped; what it described is taken down`);

  const sandboxes = new Map<string, Sandbox>();
  for (const record of records) {
    if (record.kind !== "sandbox") continue;
    const sandbox = sandboxFromRecord(
      record,
      handlers.get(record.handler) ?? vanishedHandler(record.handler, handlers.keys()),
      env.runDirectory,
    );
    sandbox.visible = true;
    sandboxes.set(sandbox.id, sandbox);
  }
  const orphans: ContainerRecord[] = [];
  for (const record of records) {
    if (record.kind !== "container") continue;
    const sandbox = sandboxes.get(record.sandboxId);
    if (sandbox === undefined) orphans.push(record);
    else sandbox.containers.set(record.id, containerFromRecord(record, sandbox));
  }

  await Promise.all(
    records
      .filter((record) => record.kind === "sandbox")
      .map(async (record) => await reattach(env, sandboxes.get(record.id), record)),
  );
  await Promise.all(orphans.map(async ({ id }) => await env.records.remove(id)));
  await clearStrangers(env, sandboxes);
  await recoverCheckpoints(
    env,
    [...sandboxes.values()].flatMap(({ containers }) => [...containers.values()]),
  );
  return sandboxes;
}

async function reattach(env: Environment, sandbox: Sandbox | undefined, record: SandboxRecord): Promise<void> {
  if (sandbox === undefined || !record.ready) return;
  const monitor = connectMonitor(sandbox.podDirectory);
  try {
    const runs = await monitor.state({ timeoutMs: answerMs });
    sandbox.becomeReady(monitor, record.monitorPid, record.ips, record.timeline);
    await adopt(env, sandbox, runs);
  } catch (error) {
    if (error instanceof KeelsonError && error.name === "monitorUnreachable") return await bury(env, sandbox, record);
    env.log(
      "warn",
      `pod sandbox ${sandbox.id}: its monitor does not answer, so its last known state stands: ${String(error)}`,
    );
    sandbox.becomeReady(monitor, record.monitorPid, record.ips, record.timeline);
  }
}

/** The monitor's word goes before the record's. */
async function adopt(env: Environment, sandbox: Sandbox, runs: readonly ContainerRun[]): Promise<void> {
  const byId = new Map(runs.map((run) => [run.id, run]));
  for (const container of sandbox.containers.values()) {
    const run = byId.get(container.id);
    if (run === undefined || container.phase.state === "exited") continue;
    container.setPhase(phaseOf(run));
    await env.records.save(containerRecord(container));
  }
}

/** The monitor is gone (killed, or the host rebooted): exit records tell what they can, the rest is unknown. */
async function bury(env: Environment, sandbox: Sandbox, record: SandboxRecord): Promise<void> {
  await detachWhilePinned(env, sandbox.id, sandbox.netnsPath);
  for (const container of sandbox.containers.values()) {
    const exit = await exitOnDisk(sandbox.podDirectory, container.id);
    if (exit !== undefined && container.phase.state !== "exited") container.setPhase(exitedPhase(exit));
  }
  await detachNetwork(env, sandbox.id);
  await clearRemains(env, {
    podDirectory: sandbox.podDirectory,
    cgroup: sandbox.cgroup,
    ownsCgroup: sandbox.ownsCgroup,
    containerIds: [...sandbox.containers.keys()],
    monitorPid: record.monitorPid,
  }).catch((error: unknown) => {
    sandbox.setLeftovers([
      `clear the remains of the monitor: ${error instanceof Error ? error.message : String(error)}`,
    ]);
  });
  markStopped(env, sandbox);
  await env.records.save(sandboxRecord(sandbox));
}

/** While the network namespace is still pinned: without it plugins leave rules behind. What fails, cni/ tries again. */
async function detachNetwork(env: Environment, id: string): Promise<void> {
  await env.network.detach(id).catch((error: unknown) => {
    env.log("warn", `pod sandbox ${id}: its network is still being taken down: ${String(error)}`);
  });
}

/** exits/<id>.json, a ContainerState of PROTOCOL.md. */
async function exitOnDisk(podDirectory: string, id: string): Promise<ExitedRun | undefined> {
  try {
    const record: unknown = JSON.parse(await readFile(join(podDirectory, "exits", `${id}.json`), "utf8"));
    return typeof record === "object" && record !== null ? parseExited(record) : undefined;
  } catch {
    return undefined;
  }
}

/** Pods, bundles and writable layers that no record names: made by a request that the daemon did not live to finish. */
async function clearStrangers(env: Environment, sandboxes: ReadonlyMap<string, Sandbox>): Promise<void> {
  const containers = new Set([...sandboxes.values()].flatMap((sandbox) => [...sandbox.containers.keys()]));
  for (const name of await podDirectories(env.runDirectory)) {
    if (!sandboxes.has(name)) await clearStrangePod(env, join(env.runDirectory, "pods", name));
  }
  for (const sandbox of sandboxes.values()) {
    for (const bundle of await bundlesOf(sandbox)) {
      if (!containers.has(basename(bundle))) await env.host.removeTree(bundle);
    }
  }
  for (const id of env.images.snapshots()) {
    if (!containers.has(id)) await env.images.removeSnapshot(id);
  }
}

async function clearStrangePod(env: Environment, podDirectory: string): Promise<void> {
  const id = basename(podDirectory);
  env.log("warn", `pod directory ${podDirectory} has no record; it is taken down`);
  const cgroup = await cgroupOnDisk(podDirectory);
  await detachNetwork(env, id);
  await detachWhilePinned(env, id, join(podDirectory, "ns", "net"));
  await connectMonitor(podDirectory)
    .shutdown(0, { timeoutMs: limits.shutdown })
    .catch(() => undefined);
  await clearRemains(env, {
    podDirectory,
    cgroup: cgroup?.path ?? `${env.cgroupRoot}/${id}`,
    ownsCgroup: cgroup?.own ?? true,
    containerIds: await readdir(join(podDirectory, "containers")).catch(() => []),
    monitorPid: 0,
  });
  await env.host.removeTree(podDirectory);
}

/**
 * Plugins find some of what they made only by looking into the namespace (bridge: its masquerade rules), so
 * DEL comes before the namespace goes. After a reboot there is none, and collectGarbage does it, a few at a time.
 */
async function detachWhilePinned(env: Environment, id: string, netns: string): Promise<void> {
  if (existsSync(netns)) await env.network.detach(id);
}

async function cgroupOnDisk(podDirectory: string): Promise<{ path: string; own: boolean } | undefined> {
  try {
    const sandbox: unknown = JSON.parse(await readFile(join(podDirectory, "sandbox.json"), "utf8"));
    if (typeof sandbox !== "object" || sandbox === null || !("cgroup" in sandbox) || !("own_cgroup" in sandbox))
      return undefined;
    return typeof sandbox.cgroup === "string" && sandbox.cgroup.startsWith("/")
      ? { path: sandbox.cgroup, own: sandbox.own_cgroup === true }
      : undefined;
  } catch {
    return undefined;
  }
}

async function bundlesOf(sandbox: Sandbox): Promise<string[]> {
  const directory = join(sandbox.podDirectory, "containers");
  const names = await readdir(directory).catch(() => []);
  return names.map((name) => join(directory, name));
}
