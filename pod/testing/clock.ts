// Fake time that only a test advances: both kinds of timers, AbortSignal.timeout, performance.now(). Files are
// still read and written in real time, so a test waits for a visible state (`until`) before it lets time pass.

import { syncBuiltinESMExports } from "node:module";
import timersPromises from "node:timers/promises";
import { afterEach, beforeEach, vi } from "vitest";
import { ownHost } from "../../native/index.ts";

const patienceNs = 60_000_000_000n;
/** Event loop turns to wait: promises settle within one, but Node has some chains of setImmediate calls. */
const turns = 10;

/** Fakes time for the whole test file. */
export function holdTime(): void {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    // Vitest's fake timers do not cover these two.
    vi.spyOn(timersPromises, "setTimeout").mockImplementation(delay);
    vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(new DOMException("timed out", "TimeoutError")), ms);
      return controller.signal;
    });
    syncBuiltinESMExports();
    const { changeFiles, readFiles } = ownHost();
    vi.spyOn(ownHost(), "changeFiles").mockImplementation(counted(changeFiles));
    vi.spyOn(ownHost(), "readFiles").mockImplementation(counted(readFiles));
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.useRealTimers();
    syncBuiltinESMExports();
  });
}

/** Running tasks of the addon in the thread pool, which Node does not list as active resources. */
let tasksOfAddon = 0;

function counted<Arguments extends readonly unknown[], Result>(call: (...words: Arguments) => Promise<Result>) {
  return async (...words: Arguments): Promise<Result> => {
    tasksOfAddon += 1;
    try {
      return await call(...words);
    } finally {
      tasksOfAddon -= 1;
    }
  };
}

export async function pass(milliseconds: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(milliseconds);
}

/** Waits until the condition holds, without advancing the fake time. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const start = process.hrtime.bigint();
  while (!(await holds())) {
    if (process.hrtime.bigint() - start > patienceNs) throw new Error(`timed out waiting until ${what}`);
    await turn();
  }
}

/** The result of work that must finish within this time; advances the fake time only as far as needed. */
export async function within<Result>(milliseconds: number, work: Promise<Result>): Promise<Result> {
  const start = performance.now();
  let tookMs: number | undefined;
  const settle = () => {
    tookMs = performance.now() - start;
  };
  work.then(settle, settle);
  await until("the work is done, or only waits for time", async () => {
    await quiet();
    if (tookMs !== undefined) return true;
    if (performance.now() - start < milliseconds) await vi.advanceTimersToNextTimerAsync();
    return false;
  });
  if (tookMs !== undefined && tookMs > milliseconds) throw new Error(`it took ${tookMs} ms instead of ${milliseconds}`);
  return await work;
}

/** Node's resource names for reads, writes, and closing the FileHandle in readFile. */
const fileWork = /^(FSReq|CloseReq)/;

/** Waits until nothing more happens without time passing: no file I/O is running and the event loop is idle. */
export async function quiet(): Promise<void> {
  for (let idle = 0; idle < turns; idle += 1) {
    await turn();
    if (tasksOfAddon > 0 || process.getActiveResourcesInfo().some((resource) => fileWork.test(resource))) idle = 0;
  }
}

async function turn(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}

async function delay(
  milliseconds?: number,
  value?: unknown,
  options?: { signal?: AbortSignal | undefined },
): Promise<unknown> {
  const signal = options?.signal;
  signal?.throwIfAborted();
  return await new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve(value);
    }, milliseconds);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
