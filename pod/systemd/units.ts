// The scopes that keelson has systemd keep: one for each pod's processes with the systemd driver, one for the monitors of
// pods that are elsewhere. Both are delegated, so systemd changes nothing below them, and go with their last process.
// A slice that was not there before (a kubelet makes those of its pods itself) is made with its first scope and goes
// with its last one.
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

/** Where monitors are that have no scope of their pod's. */
export const monitorsScope: Scope = {
  name: "keelson-monitors.scope",
  slice: "keelson.slice",
  description: "Monitors of Keelson's pods",
};

/** All that one call may take: a reload of thousands of units keeps systemd for seconds. */
const callMs = 30_000;
/** Between looks for a bus or a systemd that went away. */
const retryMs = 100;
/** How long the end of a job is waited for before it is looked for: its signal may have been lost. */
const jobMs = 1_000;

/** Of the package. A daemon that still ran while scopes are stopped at shutdown would kill the pods of lost monitors. */
const daemonUnit = "keelson.service";
/** What systemd sends a scope at shutdown is SIGTERM; this is what Kubernetes gives a pod by default until SIGKILL. */
const stopMicroseconds = "30000000";
const infinity = "18446744073709551615";

const noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit";
const unitExists = "org.freedesktop.systemd1.UnitExists";
/** Refusals that pass: another start of the scope is under way, or its slice just ends with the last scope before. */
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
    // The default is a share of the host's: of a pod that is the kubelet's to say.
    ["TasksMax", ["t", infinity]],
    ["TimeoutStopUSec", ["t", stopMicroseconds]],
    // Stopped in the reverse order: it ends first.
    ["Before", ["as", [daemonUnit]]],
    // Nothing is left of one that failed either.
    ["CollectMode", ["s", "inactive-or-failed"]],
  ];
}

/** The slice would be systemd's without that, too, but it would stay until the next boot. */
const sliceProperties: readonly Property[] = [
  ["Description", ["s", "Slice of Keelson's pods"]],
  ["StopWhenUnneeded", ["b", true]],
];

export class Systemd {
  readonly #cgroups: string;
  readonly #bus: SystemBus;
  readonly #proc: string;

  /** `cgroups` is the mount point of the hierarchy in which systemd keeps its units. */
  constructor(cgroups: string, bus = new SystemBus(), proc = "/proc") {
    this.#cgroups = cgroups;
    this.#bus = bus;
    this.#proc = proc;
  }

  /** Resolves when the processes are in the new scope. */
  async startScope(scope: Scope, pids: readonly number[]): Promise<void> {
    await this.#bounded(scope, pids, async (signal) => await this.#start(scope, pids, signal));
  }

  /** The same, of a scope that others may be in already. */
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
      // Somebody has made one of the slices meanwhile.
      if (slices.length === 0 || !isRefusal(error, unitExists)) throw error;
      return await this.#queueStart(scope, pids, [], signal);
    });
    const result = await this.#resultOf(job, scope, pids, signal);
    if (result !== "done") throw podErrors.scopeFailed({ scope: scope.name, reason: `its start ended as "${result}"` });
  }

  /** Outer ones first. */
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

  /** Again while the bus or systemd is away, or refuses what will pass. */
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
        // It may have been heard before the answer was lost.
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
