// An in-memory pod monitor: manages containers as in PROTOCOL.md, and outlives the daemon.

import type { Duplex } from "node:stream";
import { monitorErrors } from "../../native/client/monitor-errors.ts";
import {
  type ContainerRun,
  type Deadline,
  type ExecSyncRequest,
  type ExecSyncResult,
  type ExitedRun,
  type Monitor,
  MonitorError,
  type MonitorEvent,
  type Session,
  type StartRequest,
} from "../../native/index.ts";
import type { Bounds, Script } from "./script.ts";

export interface Exit {
  readonly exitCode: number;
  readonly oomKilled?: boolean;
}

interface Watcher {
  readonly events: MonitorEvent[];
  wake: () => void;
  hungUp: boolean;
}

/** A pid that no process on the host has. */
const firstPid = 2 ** 30;
const startTime = 1_790_000_000_000_000_000n;

export class ScriptedMonitor implements Monitor {
  readonly pid = firstPid;
  /** In order of arrival. */
  readonly starts: StartRequest[] = [];
  readonly updates: object[] = [];
  readonly networkSysctls: Readonly<Record<string, string>>[] = [];
  readonly #script: Script;
  readonly #socket: string;
  readonly #runs = new Map<string, ContainerRun>();
  readonly #watchers = new Set<Watcher>();
  #state: "up" | "frozen" | "gone" = "up";
  #initLost = false;
  #clock = startTime;

  constructor(script: Script, podDirectory: string) {
    this.#script = script;
    this.#socket = `${podDirectory}/monitor.sock`;
  }

  // Controls for tests.

  exits(id: string, { exitCode, oomKilled = false }: Exit): void {
    const run = this.#runs.get(id);
    if (run?.state !== "running") throw new Error(`container ${id} is not running`);
    this.#end(run, exitCode, 0, oomKilled);
  }

  /** Adds a container that has been running all along. */
  hasRun(id: string, pid: number): void {
    this.#runs.set(id, { state: "running", id, pid, startedAt: startTime, tty: false });
  }

  runsOutOfMemory(id: string): void {
    this.#emit({ type: "oom", id });
  }

  losesInit(): void {
    this.#initLost = true;
    this.#emit({ type: "initLost" });
  }

  /** Keeps running, but no longer knows that container. */
  forgets(id: string): void {
    this.#runs.delete(id);
  }

  /** Disconnects all watchers, as it does with one that is too slow. */
  hangsUpOnWatchers(): void {
    for (const watcher of this.#watchers) {
      watcher.hungUp = true;
      watcher.wake();
    }
  }

  /** Accepts calls but answers none, as after SIGSTOP. */
  freezes(): void {
    this.#state = "frozen";
  }

  thaws(): void {
    this.#state = "up";
  }

  dies(): void {
    this.#state = "gone";
    this.#runs.clear();
    this.hangsUpOnWatchers();
  }

  get isGone(): boolean {
    return this.#state === "gone";
  }

  get running(): string[] {
    return [...this.#runs.values()].filter(({ state }) => state === "running").map(({ id }) => id);
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** Drops the watchers of a killed daemon. */
  forgetWatchers(): void {
    this.#watchers.clear();
  }

  // The Monitor interface.

  async hello(deadline: Deadline): Promise<{ readonly pid: number; readonly version: string }> {
    return await this.#call("hello", "", deadline, () => ({ pid: this.pid, version: "0.1.0" }));
  }

  async state(deadline: Deadline): Promise<readonly ContainerRun[]> {
    return await this.#call("state", "", deadline, () => [...this.#runs.values()]);
  }

  async start(request: StartRequest, deadline: Deadline): Promise<ContainerRun> {
    this.starts.push(request);
    return await this.#call("start", request.id, deadline, () => {
      if (this.#runs.has(request.id)) throw refusal("exists", `container ${request.id} exists`);
      const pid = firstPid + this.starts.length;
      const run: ContainerRun = { state: "running", id: request.id, pid, startedAt: this.#now(), tty: false };
      this.#runs.set(request.id, run);
      return run;
    });
  }

  async stop(id: string, signal: number, timeoutMs: number, deadline: Deadline): Promise<ExitedRun> {
    return await this.#call("stop", id, deadline, () => {
      const run = this.#runs.get(id);
      if (run === undefined) throw refusal("not_found", `there is no container ${id}`);
      if (run.state === "exited") return run;
      const used = timeoutMs === 0 ? 9 : signal;
      return this.#end(run, 128 + used, used, false);
    });
  }

  async kill(id: string, _signal: number, deadline: Deadline): Promise<void> {
    await this.#call("kill", id, deadline, () => undefined);
  }

  async delete(id: string, deadline: Deadline): Promise<void> {
    await this.#call("delete", id, deadline, () => {
      if (!this.#runs.delete(id)) throw refusal("not_found", `there is no container ${id}`);
    });
  }

  async execSync({ id, room }: ExecSyncRequest, deadline: Deadline): Promise<ExecSyncResult> {
    await room?.hold("out".length);
    return await this.#call("execSync", id, deadline, () => ({
      stdout: Buffer.from("out"),
      stderr: Buffer.alloc(0),
      exitCode: 0,
    }));
  }

  async update(id: string, resources: object, deadline: Deadline): Promise<void> {
    await this.#call("update", id, deadline, () => {
      this.updates.push(resources);
    });
  }

  async setNetworkSysctls(sysctls: Readonly<Record<string, string>>, deadline: Deadline): Promise<void> {
    await this.#call("setNetworkSysctls", "", deadline, () => {
      this.networkSysctls.push(sysctls);
    });
  }

  async reopenLog(id: string, deadline: Deadline): Promise<void> {
    await this.#call("reopenLog", id, deadline, () => undefined);
  }

  async exec(): Promise<Session> {
    throw refusal("invalid", "sessions are not scripted");
  }

  async attach(): Promise<Session> {
    throw refusal("invalid", "sessions are not scripted");
  }

  async portForward(_port: number, deadline: Deadline): Promise<Duplex> {
    return await this.#call("portForward", "", deadline, () => {
      throw refusal("invalid", "port-forward is not scripted");
    });
  }

  async *watch(signal: AbortSignal): AsyncGenerator<MonitorEvent, void, undefined> {
    const watcher: Watcher = { events: [], wake: () => undefined, hungUp: false };
    const onAbort = () => watcher.wake();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const state = await this.#call("watch", "", { timeoutMs: 5_000, signal }, () => {
        this.#watchers.add(watcher);
        return [...this.#runs.values()];
      });
      watcher.events.unshift({ type: "state", containers: state });
      if (this.#initLost) watcher.events.push({ type: "initLost" });
      for (;;) {
        const event = watcher.events.shift();
        if (event !== undefined) yield event;
        else if (signal.aborted || watcher.hungUp) return;
        else await new Promise<void>((resolve) => (watcher.wake = resolve));
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#watchers.delete(watcher);
    }
  }

  async shutdown(_graceMs: number, deadline: Deadline): Promise<void> {
    await this.#call("shutdown", "", deadline, () => this.dies());
  }

  async #call<Result>(op: string, id: string, deadline: Deadline, work: () => Result): Promise<Result> {
    const socket = this.#socket;
    const { timeoutMs } = deadline;
    const bounds: Bounds = {
      ...deadline,
      late: () => monitorErrors.monitorSilent({ socket, call: op, timeoutMs }),
      cancelled: () => monitorErrors.callCancelled({ socket, call: op }),
    };
    const unlessGone = () => {
      if (this.#state === "gone") throw monitorErrors.monitorUnreachable({ socket, reason: "ECONNREFUSED" });
      return work();
    };
    if (this.#state === "frozen") this.#script.hold(`monitor ${op}`);
    return await this.#script.call(`monitor ${op}`, id, unlessGone, bounds);
  }

  #end(run: ContainerRun, exitCode: number, signal: number, oomKilled: boolean): ExitedRun {
    const exited: ExitedRun = { ...run, state: "exited", finishedAt: this.#now(), exitCode, signal, oomKilled };
    this.#runs.set(run.id, exited);
    this.#emit({ type: "exited", container: exited });
    return exited;
  }

  #emit(event: MonitorEvent): void {
    for (const watcher of this.#watchers) {
      watcher.events.push(event);
      watcher.wake();
    }
  }

  #now(): bigint {
    this.#clock += 1_000_000n;
    return this.#clock;
  }
}

/** An ERROR from the monitor itself. */
export function refusal(kind: MonitorError["kind"], message: string): MonitorError {
  return new MonitorError({ kind, message, step: "", object: "", errno: 0 });
}
