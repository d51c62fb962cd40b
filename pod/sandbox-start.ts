// RunPodSandbox: the steps from a request to a ready sandbox, each with its undo.

import { hostname } from "node:os";
import { join } from "node:path";
import type { Attachment, PodNetwork } from "../cni/types.ts";
import { isOfInterface, type SpawnedMonitor, settled, sysctlNamespace, TimeLimit } from "../native/index.ts";
import { enterScope, isScoped, leaveDaemonUnit, podCgroup } from "./cgroup-driver.ts";
import { createdAfter } from "./created-at.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { writeContainerFiles, writeMonitorFiles } from "./files.ts";
import type { RuntimeHandler } from "./handlers.ts";
import { newSandboxId } from "./ids.ts";
import { clearRemains } from "./remains.ts";
import { netnsDirectory, Sandbox, type Stage, samePod } from "./sandbox.ts";
import { sandboxRecord } from "./sandbox-record.ts";
import { owedByNetwork, remainsOf } from "./sandbox-stop.ts";
import { choosePodLabels, known } from "./spec/selinux.ts";
import { levelOf } from "./spec/selinux-label.ts";
import type { SandboxConfig } from "./types.ts";
import { type Leftover, UndoStack } from "./undo.ts";
import { userMappings } from "./user-namespace.ts";

/** `others` are all sandboxes of this node. */
export function newSandbox(
  env: Environment,
  config: SandboxConfig,
  handler: RuntimeHandler,
  others: Iterable<Sandbox>,
): Sandbox {
  const id = newSandboxId();
  const all = [...others];
  const labels = choosePodLabels(env.selinux, config, levelsOf(all));
  return new Sandbox({
    id,
    config,
    handler,
    createdAt: createdAfter(samePod(config, all), env.clock()),
    podDirectory: join(env.runDirectory, "pods", id),
    netnsPath: config.security.namespaces.network === "node" ? "" : join(netnsDirectory(env.runDirectory), id),
    cgroup: podCgroup(env, id, config),
    hostname: config.hostname === "" ? hostname() : config.hostname,
    ...(labels === undefined ? {} : { labels }),
  });
}

/** The SELinux levels in use. */
function* levelsOf(sandboxes: Iterable<Sandbox>): Iterable<string> {
  for (const { labels, containers } of sandboxes) {
    yield labels === undefined ? "" : levelOf(labels.process);
    for (const { config } of containers.values()) yield config.security.selinux?.level ?? "";
  }
}

/**
 * Makes the sandbox ready, or rolls everything back and rejects. What could not be rolled back is in the sandbox's
 * leftovers.
 */
export async function startSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  await refuseEarly(env, sandbox);
  const undo = new UndoStack(limits.undo);
  const object = `pod sandbox ${sandbox.id}`;
  using budget = new TimeLimit(limits.sandboxStart, () =>
    podErrors.stepDeadline({ step: "start", object, seconds: limits.sandboxStart / 1000 }),
  );
  try {
    await makeReady(env, sandbox, undo, budget.signal);
  } catch (error) {
    sandbox.setPhase({ life: "starting" });
    const unwound = await undo.unwind();
    const leftOfNetwork = owedByNetwork(env, sandbox).map((reason) => ({ step: "detach the network", reason }));
    const leftovers = [...unwound, ...leftOfNetwork];
    // While anything is left, the record stays too, so that the next daemon can continue the rollback.
    if (leftovers.length === 0) leftovers.push(...(await forget(env, sandbox)));
    sandbox.setLeftovers(leftovers.map(({ step, reason }) => `${step}: ${reason}`));
    throw error;
  }
}

async function forget(env: Environment, sandbox: Sandbox): Promise<Leftover[]> {
  const undo = new UndoStack(limits.undo);
  undo.push("remove the record", async () => await env.records.remove(sandbox.id));
  return await undo.unwind();
}

async function refuseEarly(env: Environment, sandbox: Sandbox): Promise<void> {
  const { security, metadata } = sandbox.config;
  if (userMappings(security.namespaces) !== undefined && !sandbox.handler.features.userNamespaces) {
    throw podErrors.userNamespaceUnsupported({ pod: metadata.name, handler: sandbox.handler.name });
  }
  if (sandbox.labels !== undefined) await known(env.selinux, sandbox.labels, `pod ${metadata.name}`);
  if (!sandbox.ownNetwork) return;
  const readiness = env.network.readiness();
  if (!readiness.ready) throw podErrors.networkNotReady({ pod: metadata.name, reason: readiness.message });
}

/** Each step has its own limit; the signal only takes effect between steps, so that no step outlives its undo. */
async function makeReady(env: Environment, sandbox: Sandbox, undo: UndoStack, signal: AbortSignal): Promise<void> {
  const { podDirectory } = sandbox;
  const stages: Stage[] = [];

  undo.push("remove the pod directory", async () => await env.host.removeTree(podDirectory));
  const networkMade = Promise.withResolvers<void>();
  let spawned: SpawnedMonitor | undefined;
  undo.push("shut down the monitor", async () => {
    await spawned?.monitor.shutdown(0, { timeoutMs: limits.shutdown }).catch(() => undefined);
    await clearRemains(env, { ...remainsOf(sandbox), monitorPid: spawned?.pid ?? 0 });
  });
  undo.push("detach the network", async () => await env.network.detach(sandbox.id));

  // The network writes its lease and starts its plugins first; they run in parallel with the rest as soon as the
  // network namespace exists.
  const attaching = sandbox.ownNetwork ? env.network.attach(podNetwork(sandbox), signal, networkMade.promise) : none;
  const recorded = timed(stages, "files", async () => {
    await settled([writeMonitorFiles(sandbox, env.cgroups), env.records.save(sandboxRecord(sandbox))]);
  });
  const spawning = recorded.then(async () => {
    signal.throwIfAborted();
    return await timed(stages, "monitor", async () => {
      const options = { podDirectory, timeoutMs: limits.monitorStart, onNetwork: networkMade.resolve };
      spawned = await env.monitors.spawn(options);
      return spawned;
    });
  });
  spawning.then(() => networkMade.resolve(), networkMade.reject);
  const [{ monitor, pid }, attachment] = await settled([
    spawning,
    attaching,
    networkMade.promise.then(async () => {
      if (sandbox.ownNetwork) await timed(stages, "network", async () => await attaching);
    }),
    spawning.then(async () => await writeContainerFiles(sandbox, env.hostResolvConf)),
    spawning.then(async (started) => {
      if (isScoped(sandbox)) await timed(stages, "scope", async () => await enterScope(env, sandbox, started));
      else void leaveDaemonUnit(env, sandbox, started);
    }),
  ]);
  signal.throwIfAborted();
  const sysctls = networkSysctls(sandbox);
  if (sysctls.length > 0)
    await monitor.setNetworkSysctls(Object.fromEntries(sysctls), { timeoutMs: limits.call, signal });

  sandbox.setPhase({ life: "ready", monitor, monitorPid: pid, ips: attachment.ips });
  sandbox.setTimeline(stages);
  await env.records.save(sandboxRecord(sandbox));
}

/**
 * The sysctls of interfaces, which exist only after the network is attached, and all other network sysctls again:
 * plugins may have changed them (the reference CNI plugins enable IPv6 for an IPv6 address). Sysctls of an interface
 * come last, because they override those for all interfaces.
 */
function networkSysctls({ config }: Sandbox): [name: string, value: string][] {
  const ofNetwork = [...config.sysctls].filter(([name]) => sysctlNamespace(name) === "network");
  return ofNetwork.toSorted(([a], [b]) => Number(isOfInterface(a)) - Number(isOfInterface(b)));
}

const none: Promise<Attachment> = Promise.resolve({ ips: [], interfaceName: "" });

async function timed<T>(stages: Stage[], stage: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  try {
    return await work();
  } finally {
    stages.push({ stage, milliseconds: Math.round((performance.now() - begin) * 10) / 10 });
  }
}

function podNetwork(sandbox: Sandbox): PodNetwork {
  const { metadata, portMappings, dns, cgroupParent, annotations } = sandbox.config;
  return {
    sandboxId: sandbox.id,
    netns: sandbox.netnsPath,
    name: metadata.name,
    namespace: metadata.namespace,
    uid: metadata.uid,
    portMappings,
    dns: dns ?? { servers: [], searches: [], options: [] },
    cgroupParent,
    annotations,
  };
}
