// The pods of this node: resolves ids, serializes the changes of each pod, answers reads from memory.

import type { Duplex } from "node:stream";
import { type KeelsonError, MemoryReturn, orAborted } from "../native/index.ts";
import { measuredCgroup } from "./cgroup-driver.ts";
import { removeEmptyCgroup } from "./cgroups.ts";
import { breakCheckpointsOff, checkpointContainer } from "./checkpoint.ts";
import { type Container, containerKey } from "./container.ts";
import { createContainer } from "./container-create.ts";
import { startContainer, stopContainer } from "./container-life.ts";
import { removeContainer } from "./container-remove.ts";
import { Creations } from "./creations.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { announce, announceSandbox } from "./events-of.ts";
import { matchingContainers, matchingSandboxes } from "./filters.ts";
import type { RuntimeHandler } from "./handlers.ts";
import { findIfAny, requireById } from "./ids.ts";
import { containerInfo, sandboxInfo } from "./info.ts";
import { OutputBudget } from "./output-budget.ts";
import type { Recovered } from "./recovery.ts";
import type { Sandbox } from "./sandbox.ts";
import { sandboxRecord } from "./sandbox-record.ts";
import { SandboxRuns } from "./sandbox-runs.ts";
import { removeFailedStart, removeSandbox, stopSandbox } from "./sandbox-stop.ts";
import { attach, exec, execSync, monitorOfRunning, portForward, reopenLog } from "./sessions.ts";
import { CgroupReader } from "./stats/cgroup-reader.ts";
import { metricsOfSandboxes, statsOfContainers, statsOfSandboxes } from "./stats/collect.ts";
import type { ContainerStats, SandboxMetrics, SandboxStats } from "./stats/types.ts";
import { tidy } from "./tidy.ts";
import type {
  ContainerConfig,
  ContainerFilter,
  ContainerId,
  ContainerView,
  ExecRequest,
  ExecSyncResult,
  PodEvent,
  Pods,
  Resources,
  RuntimeHandlerInfo,
  SandboxConfig,
  SandboxFilter,
  SandboxId,
  SandboxResources,
  SandboxView,
  Session,
} from "./types.ts";
import { updateContainer } from "./update.ts";
import { watchSandbox } from "./watch.ts";

/** Longest grace period that a timer supports, in milliseconds (about 24 days). */
const longestMs = 2_000_000_000;

export class NodePods implements Pods {
  readonly #env: Environment;
  readonly #handlers: ReadonlyMap<string, RuntimeHandler>;
  readonly #defaultHandler: RuntimeHandler;
  readonly #sandboxes: Map<string, Sandbox>;
  readonly #recovered: Recovered;
  /** The containers of all sandboxes, by id. */
  readonly #containers = new Map<string, Container>();
  readonly #runs: SandboxRuns;
  readonly #containerCreates: Creations<Container>;
  readonly #reader: CgroupReader;
  readonly #outputs: OutputBudget;
  readonly #closing = new AbortController();

  constructor(
    env: Environment,
    handlers: ReadonlyMap<string, RuntimeHandler>,
    defaultHandler: RuntimeHandler,
    recovered: Recovered,
  ) {
    this.#env = env;
    this.#handlers = handlers;
    this.#defaultHandler = defaultHandler;
    this.#sandboxes = recovered.sandboxes;
    // A snapshot: a start that a request begins before `tidy` runs must not be taken for an interrupted one.
    this.#recovered = { ...recovered, sandboxes: new Map(recovered.sandboxes) };
    this.#runs = new SandboxRuns(env, this.#sandboxes, recovered.leftAlone, this.#closing.signal, {
      started: (sandbox) => this.#watch(sandbox),
      remove: async (sandbox) => await this.removeSandbox(sandbox.id, this.#closing.signal),
    });
    this.#containerCreates = new Creations(() => undefined);
    const memory = new MemoryReturn(env.host);
    this.#outputs = new OutputBudget(() => memory.soon());
    this.#reader = new CgroupReader(env.host, env.cgroups, env.clock);
    for (const sandbox of recovered.sandboxes.values()) {
      for (const [id, container] of sandbox.containers) this.#containers.set(id, container);
    }
  }

  // Each watch needs a descriptor, so it starts here, after the client socket exists.
  async tidy(): Promise<void> {
    const model = {
      forgetSandbox: (sandbox: Sandbox) => this.#forgetSandbox(sandbox),
      forgetContainer: (container: Container) => this.#forget(container),
      rollbackFailed: (sandbox: Sandbox) => this.#runs.rollbackFailed(sandbox),
    };
    for (const sandbox of this.#recovered.sandboxes.values()) if (sandbox.ready) this.#watch(sandbox);
    await tidy(this.#env, this.#recovered, model, this.#closing.signal);
    if (this.#closing.signal.aborted) return;
    const living = new Set([...this.#sandboxes.keys(), ...this.#recovered.leftAlone.keys()]);
    await this.#env.network.collectGarbage(living).catch((error: unknown) => {
      this.#env.log("warn", `network garbage collection failed and will be retried: ${String(error)}`);
    });
  }

  async runSandbox(config: SandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<SandboxId> {
    return await this.#runs.run(config, this.#handler(runtimeHandler), signal);
  }

  async stopSandbox(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = findIfAny(this.#sandboxes, id, "sandbox");
    if (sandbox === undefined) return this.#refuseLeftAlone(id, "sandbox");
    await this.#inTurn(sandbox, "stop", signal, async () => {
      if (!this.#sandboxes.has(sandbox.id)) return;
      if (sandbox.life === "starting") await this.#remove(sandbox);
      else await stopSandbox(this.#env, sandbox);
    });
  }

  async removeSandbox(id: string, signal: AbortSignal): Promise<void> {
    const sandbox = findIfAny(this.#sandboxes, id, "sandbox");
    if (sandbox === undefined) return this.#refuseLeftAlone(id, "sandbox");
    await this.#inTurn(sandbox, "removal", signal, async () => await this.#remove(sandbox));
  }

  leftAlone() {
    return [...this.#recovered.leftAlone].map(([id, { reason, pod }]) => ({
      id,
      pod: pod === undefined ? "" : `${pod.namespace}/${pod.name}`,
      reason,
    }));
  }

  sandbox(id: string): SandboxView {
    return requireById(this.#sandboxes, id, "sandbox").view();
  }

  sandboxes(filter: SandboxFilter): readonly SandboxView[] {
    return matchingSandboxes(this.#sandboxes, filter).map((sandbox) => sandbox.view());
  }

  containersOf(id: SandboxId): readonly ContainerView[] {
    const sandbox = this.#sandboxes.get(id);
    return sandbox === undefined ? [] : [...sandbox.containers.values()].map((container) => container.view());
  }

  async createContainer(sandboxId: string, config: ContainerConfig, signal: AbortSignal): Promise<ContainerId> {
    const sandbox = requireById(this.#sandboxes, sandboxId, "sandbox");
    this.#runs.claim(sandbox);
    const key = containerKey(config);
    const earlier = sandbox.containers.values().find((container) => container.key === key && !container.removing);
    if (earlier !== undefined) return earlier.id;
    const object = `container ${config.metadata.name} of pod sandbox ${sandbox.id}`;
    const container = await this.#containerCreates.run(`${sandbox.id} ${key}`, object, "creation", signal, async () => {
      return await this.#inTurn(
        sandbox,
        `creation of container ${config.metadata.name}`,
        this.#closing.signal,
        async () => {
          const created = await createContainer(this.#env, sandbox, config, this.#sandboxes.values());
          sandbox.containers.set(created.id, created);
          this.#containers.set(created.id, created);
          announce(this.#env, created, "created");
          return created;
        },
      );
    });
    return container.id;
  }

  async startContainer(id: string, signal: AbortSignal): Promise<void> {
    const container = requireById(this.#containers, id, "container");
    await this.#inTurn(
      container.sandbox,
      `start of container ${container.id}`,
      signal,
      async () => await startContainer(this.#env, requireById(this.#containers, container.id, "container")),
    );
  }

  /** Bypasses the queue: a long grace period must not block the pod, and a later call may shorten it. */
  async stopContainer(id: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void> {
    const container = findIfAny(this.#containers, id, "container");
    if (container === undefined) return this.#refuseLeftAlone(id, "container");
    await orAborted(stopContainer(this.#env, container, inMilliseconds(timeoutSeconds)), signal, () =>
      podErrors.callerGone({ step: "stop", object: `container ${container.id}` }),
    );
  }

  async removeContainer(id: string, signal: AbortSignal): Promise<void> {
    const container = findIfAny(this.#containers, id, "container");
    if (container === undefined) return this.#refuseLeftAlone(id, "container");
    await this.#inTurn(container.sandbox, `removal of container ${container.id}`, signal, async () => {
      if (!this.#containers.has(container.id)) return;
      await removeContainer(this.#env, container);
      this.#forget(container);
    });
  }

  container(id: string): ContainerView {
    return requireById(this.#containers, id, "container").view();
  }

  containers(filter: ContainerFilter): readonly ContainerView[] {
    return matchingContainers(this.#containers, filter).map((container) => container.view());
  }

  async updateContainerResources(id: string, change: Resources, signal: AbortSignal): Promise<void> {
    const container = requireById(this.#containers, id, "container");
    await this.#inTurn(container.sandbox, `resource update of container ${container.id}`, signal, async () => {
      requireById(this.#containers, container.id, "container");
      await updateContainer(this.#env, this.#reader, container, change);
    });
  }

  async updateSandboxResources(id: string, change: SandboxResources, signal: AbortSignal): Promise<void> {
    const sandbox = requireById(this.#sandboxes, id, "sandbox");
    await this.#inTurn(sandbox, "resource update", signal, async () => {
      requireById(this.#sandboxes, sandbox.id, "sandbox");
      sandbox.resources = { ...sandbox.resources, ...change };
      await this.#env.records.save(sandboxRecord(sandbox));
    });
  }

  async execSync(
    id: string,
    command: readonly string[],
    timeoutSeconds: bigint,
    call: { readonly signal: AbortSignal; readonly answered: Promise<void> },
  ): Promise<ExecSyncResult> {
    const container = requireById(this.#containers, id, "container");
    return await execSync(container, command, inMilliseconds(timeoutSeconds), this.#outputs, call);
  }

  async reopenLog(id: string): Promise<void> {
    await reopenLog(requireById(this.#containers, id, "container"));
  }

  /** Bypasses the queue: a large container must not block its pod. */
  async checkpointContainer(id: string, location: string, timeoutSeconds: bigint, signal: AbortSignal): Promise<void> {
    const container = requireById(this.#containers, id, "container");
    const order = { location, timeoutMs: inMilliseconds(timeoutSeconds) };
    await checkpointContainer(this.#env, container, order, signal);
  }

  streamable(id: string): ContainerView {
    const container = requireById(this.#containers, id, "container");
    monitorOfRunning(container, "streaming to it");
    return container.view();
  }

  async exec(id: ContainerId, request: ExecRequest, signal: AbortSignal): Promise<Session> {
    return await exec(requireById(this.#containers, id, "container"), request, signal);
  }

  async attach(id: ContainerId, stdin: boolean, signal: AbortSignal): Promise<Session> {
    return await attach(requireById(this.#containers, id, "container"), stdin, signal);
  }

  forwardable(id: string): SandboxView {
    const sandbox = requireById(this.#sandboxes, id, "sandbox");
    if (!sandbox.ready) throw podErrors.sandboxNotReady({ id: sandbox.id, step: "forwarding a port" });
    return sandbox.view();
  }

  async portForward(id: SandboxId, port: number, signal: AbortSignal): Promise<Duplex> {
    return await portForward(requireById(this.#sandboxes, id, "sandbox"), port, signal);
  }

  async containerStats(id: string): Promise<ContainerStats> {
    const container = requireById(this.#containers, id, "container");
    const [stats] = await statsOfContainers(this.#env, this.#reader, [container]);
    if (stats === undefined) throw podErrors.containerNotFound({ id });
    return stats;
  }

  async listContainerStats(filter: ContainerFilter): Promise<readonly ContainerStats[]> {
    const alive = matchingContainers(this.#containers, filter).filter(({ phase }) => phase.state !== "exited");
    return await statsOfContainers(this.#env, this.#reader, alive);
  }

  async sandboxStats(id: string): Promise<SandboxStats> {
    const sandbox = requireById(this.#sandboxes, id, "sandbox");
    const [stats] = await statsOfSandboxes(this.#env, this.#reader, [sandbox]);
    if (stats === undefined) throw podErrors.sandboxNotFound({ id });
    return stats;
  }

  async listSandboxStats(filter: SandboxFilter): Promise<readonly SandboxStats[]> {
    const ready = matchingSandboxes(this.#sandboxes, filter).filter((sandbox) => sandbox.ready);
    return await statsOfSandboxes(this.#env, this.#reader, ready);
  }

  async sandboxMetrics(): Promise<readonly SandboxMetrics[]> {
    const ready = matchingSandboxes(this.#sandboxes, { labels: new Map(), state: "ready" });
    return await metricsOfSandboxes(this.#env, this.#reader, ready);
  }

  events(signal: AbortSignal, end: (reason: KeelsonError) => void): AsyncIterable<PodEvent> {
    return this.#env.events.subscribe(signal, end);
  }

  runtimeHandlers(): readonly RuntimeHandlerInfo[] {
    const usable = [...this.#handlers.values()].filter((handler) => handler.usable);
    const named = usable.map((handler) => handlerInfo(handler.name, handler));
    return [handlerInfo("", this.#defaultHandler), ...named];
  }

  async sandboxInfo(id: string): Promise<object> {
    return await sandboxInfo(this.#env, requireById(this.#sandboxes, id, "sandbox"));
  }

  async containerInfo(id: string): Promise<object> {
    return await containerInfo(requireById(this.#containers, id, "container"));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const sandbox of this.#sandboxes.values()) {
      sandbox.watch.abort();
      if (!sandbox.queue.idle || sandbox.life === "starting" || sandbox.life === "stopping")
        this.#env.log("info", `pod sandbox ${sandbox.id} has unfinished work, which continues at the next start`, {
          life: sandbox.life,
          step: sandbox.queue.current,
        });
    }
    await Promise.all([this.#env.records.idle(), breakCheckpointsOff([...this.#containers.values()])]);
    // The monitors created it with the first pod; once no pods are left, remove it from the hierarchies.
    await removeEmptyCgroup(this.#env.cgroups, this.#env.cgroupRoot);
    this.#env.systemd?.close();
  }

  #handler(name: string): RuntimeHandler {
    const handler = name === "" ? this.#defaultHandler : this.#handlers.get(name);
    if (handler === undefined)
      throw podErrors.handlerUnknown({ handler: name, known: [...this.#handlers.keys()].join(", ") });
    return handler;
  }

  /** A client must not believe that it is gone. */
  #refuseLeftAlone(text: string, object: "sandbox" | "container"): void {
    const { leftAlone } = this.#recovered;
    const found = findIfAny(new Map([...leftAlone.keys()].map((id) => [id, id])), text, object);
    if (found !== undefined) throw podErrors.leftAlone({ id: found, reason: leftAlone.get(found)?.reason ?? "" });
  }

  #watch(sandbox: Sandbox): void {
    watchSandbox(this.#env, sandbox).catch((error: unknown) => {
      this.#env.log("error", `pod sandbox ${sandbox.id}: watching its monitor failed: ${String(error)}`);
    });
  }

  async #remove(sandbox: Sandbox): Promise<void> {
    if (!this.#sandboxes.has(sandbox.id)) return;
    // Not `sandbox.containers`: containers removed by an earlier attempt are already missing there.
    const containers = [...this.#containers.values()].filter((container) => container.sandbox === sandbox);
    if (sandbox.life === "starting") await removeFailedStart(this.#env, sandbox);
    else await removeSandbox(this.#env, sandbox);
    for (const container of containers) this.#forget(container);
    this.#forgetSandbox(sandbox);
  }

  #forgetSandbox(sandbox: Sandbox): void {
    this.#reader.forget(measuredCgroup(sandbox));
    this.#sandboxes.delete(sandbox.id);
    announceSandbox(this.#env, sandbox, "deleted");
  }

  #forget(container: Container): void {
    this.#containers.delete(container.id);
    this.#reader.forget(container.cgroup);
    announce(this.#env, container, "deleted");
  }

  /** Work that has begun keeps its turn in the queue and continues when the caller gives up. */
  async #inTurn<T>(sandbox: Sandbox, step: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const turn = sandbox.queue.run(`pod sandbox ${sandbox.id}`, step, signal, limits.queue, work);
    return await orAborted(turn, signal, () => podErrors.callerGone({ step, object: `pod sandbox ${sandbox.id}` }));
  }
}

function handlerInfo(name: string, handler: RuntimeHandler): RuntimeHandlerInfo {
  return { name, ...handler.features };
}

/** A request's timeout in milliseconds, capped at `longestMs`. */
function inMilliseconds(seconds: bigint): number {
  return seconds > BigInt(longestMs / 1000) ? longestMs : Number(seconds) * 1000;
}
