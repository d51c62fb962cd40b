// The systemd scopes of keelson: with the systemd driver one for each pod's processes, and one for the monitors of all
// other pods. Scopes are delegated, so systemd changes nothing below them, and are removed with their last process.
// A missing slice (kubelets create their pods' slices themselves) is created with its first scope and removed with its
// last one.
// Sources: org.freedesktop.systemd1(5), CGROUP_DELEGATION.md, systemd.resource-control(5), systemd.unit(5).

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf, TimeLimit } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import { BusLost, BusRefusal, type Job, SystemBus } from "./bus.ts";
import { sliceCgroup, slicesAround } from "./slices.ts";

export interface Scope {
  readonly name: string;
  readonly slice: string;
  readonly description: string;
}

/** The scope of monitors whose pod has no scope. */
export const monitorsScope: Scope = {
  name: "keelson-monitors.scope",
  slice: "keelson.slice",
  description: "Monitors of Keelson's pods",
};

/** Time limit of a whole call: reloading thousands of units can block systemd for seconds. */
const callMs = 30_000;
/** Between retries while the bus or systemd is unavailable. */
const retryMs = 100;
/** How long to wait for a job's completion signal before checking the result, as the signal may have been lost. */
const jobMs = 1_000;

/**
 * Unit name from the package. At shutdown the daemon must stop before the scopes: a running daemon would take stopped
 * monitors for dead ones and kill their pods.
 */
const daemonUnit = "keelson.service";
/** Time from SIGTERM to SIGKILL when systemd stops a scope at shutdown: Kubernetes' default grace period, 30 s. */
const stopMicroseconds = "30000000";
const infinity = "18446744073709551615";

const noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";
const unitExists = "org.freedesktop.systemd1.UnitExists";
/** Transient refusals: another start of the scope is in progress, or its slice is just being removed. */
const passing: ReadonlySet<string> = new Set([
  unitExists,
  noSuchUnit,
  "org.freedesktop.systemd1.TransactionIsDestructive",
]);

/** A property of a unit and its value as a D-Bus variant. */
export type Property = readonly [name: string, variant: readonly [signature: string, value: unknown]];

export function scopeProperties({ slice, description }: Scope, pids: readonly number[]): Property[] {
  return [
    ["Description", ["s", description]],
    ["Slice", ["s", slice]],
    ["Delegate", ["b", true]],
    ["PIDs", ["au", pids]],
    // The default is a share of the host's limit, but for a pod the kubelet sets it.
    ["TasksMax", ["t", infinity]],
    ["TimeoutStopUSec", ["t", stopMicroseconds]],
    // Units stop in reverse order, so the daemon stops first.
    ["Before", ["as", [daemonUnit]]],
    // Unload the unit even if it failed.
    ["CollectMode", ["s", "inactive-or-failed"]],
  ];
}

/** systemd would also create the slice implicitly, but then it would stay until the next boot. */
const sliceProperties: readonly Property[] = [
  ["Description", ["s", "Slice of Keelson's pods"]],
  ["StopWhenUnneeded", ["b", true]],
];

export class Systemd {
  readonly #cgroups: string;
  readonly #bus: SystemBus;
  readonly #proc: string;

  /** `cgroups` is the mount point of the hierarchy that systemd uses for its units. */
  constructor(cgroups: string, bus = new SystemBus(), proc = "/proc") {
    this.#cgroups = cgroups;
    this.#bus = bus;
    this.#proc = proc;
  }

  /** Resolves when the processes are in the new scope. */
  async startScope(scope: Scope, pids: readonly number[]): Promise<void> {
    await this.#bounded(scope, pids, async (signal) => await this.#start(scope, pids, signal));
  }

  /** Like `startScope`, but for a scope that may already exist with other processes. */
  async joinScope(scope: Scope, pids: readonly number[]): Promise<void> {
    await this.#bounded(scope, pids, async (signal) => {
      try {
        await this.#bus.call("AttachProcessesToUnit", "ssau", [scope.name, "", pids], signal);
      } catch (error) {
        if (!isRefusal(error, noSuchUnit)) throw error;
        await this.#start(scope, pids, signal);
      }
    });
  }

  close(): void {
    this.#bus.close();
  }

  async #start(scope: Scope, pids: readonly number[], signal: AbortSignal): Promise<void> {
    const slices = this.#missingSlices(scope);
    const job = await this.#queueStart(scope, pids, slices, signal).catch(async (error: unknown) => {
      // One of the slices was created meanwhile.
      if (slices.length === 0 || !isRefusal(error, unitExists)) throw error;
      return await this.#queueStart(scope, pids, [], signal);
    });
    const result = await this.#resultOf(job, scope, pids, signal);
    if (result !== "done")
      throw podErrors.scopeFailed({ scope: scope.name, reason: `its start job finished as "${result}"` });
  }

  /** Outermost first. */
  #missingSlices({ slice }: Scope): string[] {
    return slicesAround(slice).filter((name) => !existsSync(join(this.#cgroups, sliceCgroup(name) ?? "")));
  }

  async #queueStart(
    scope: Scope,
    pids: readonly number[],
    slices: readonly string[],
    signal: AbortSignal,
  ): Promise<Job> {
    const besides = slices.map((name) => [name, sliceProperties]);
    const body = [scope.name, "fail", scopeProperties(scope, pids), besides];
    return await this.#bus.startJob("StartTransientUnit", "ssa(sv)a(sa(sv))", body, signal);
  }

  async #resultOf({ result }: Job, scope: Scope, pids: readonly number[], signal: AbortSignal): Promise<string> {
    for (;;) {
      const signalled = await Promise.race([result, delay(jobMs, undefined, { signal })]);
      if (signalled !== undefined) return signalled;
      if (await this.#isInside(scope, pids)) return "done";
    }
  }

  /** Retries while the bus or systemd is unavailable, and after transient refusals. */
  async #bounded(
    scope: Scope,
    pids: readonly number[],
    attempt: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    let reason = "it did not answer";
    const late = () => podErrors.systemdLate({ scope: scope.name, seconds: callMs / 1000, reason });
    using limit = new TimeLimit(callMs, late);
    for (;;) {
      try {
        return await attempt(limit.signal);
      } catch (error) {
        limit.signal.throwIfAborted();
        const isPassing = error instanceof BusRefusal && passing.has(error.errorName);
        if (error instanceof BusRefusal && !isPassing) {
          throw podErrors.scopeFailed({ scope: scope.name, reason: error.message }, error);
        }
        if (!isPassing && !(error instanceof BusLost)) throw error;
        // The call may have succeeded although its answer was lost.
        if (await this.#isInside(scope, pids)) return;
        reason = messageOf(error);
      }
      await delay(retryMs);
      limit.signal.throwIfAborted();
    }
  }

  async #isInside({ name }: Scope, pids: readonly number[]): Promise<boolean> {
    const cgroups = await Promise.all(
      pids.map((pid) => readFile(`${this.#proc}/${pid}/cgroup`, "utf8").catch(() => "")),
    );
    return cgroups.every((text) => text.split("\n").some((line) => line.endsWith(`/${name}`)));
  }
}

function isRefusal(error: unknown, name: string): boolean {
  return error instanceof BusRefusal && error.errorName === name;
}
