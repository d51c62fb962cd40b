// Returns memory to the kernel after work that used much of it: V8 does not collect garbage while the daemon is idle,
// and the C library keeps what was freed.

import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Host, ownHost } from "./host.ts";

let collector: NodeJS.GCFunction | undefined;

/**
 * Makes V8 collect garbage, in the whole heap or the young generation. `node --expose-gc` would provide this too, but
 * with that flag V8 rejects the precompiled code of Node's own modules, which cost 30 ms more CPU time per start.
 */
export function collect(type: "major" | "minor" = "major"): void {
  collector ??= exposeCollector();
  // Always name the type: V8 treats an object without one as a request for a minor collection.
  collector({ type });
}

function exposeCollector(): NodeJS.GCFunction {
  setFlagsFromString("--expose-gc");
  const exposed: NodeJS.GCFunction = runInNewContext("gc");
  // Compiled code that is cached for the next start (compiled-code.ts) records the flags at that time.
  setFlagsFromString("--no-expose-gc");
  return exposed;
}

/**
 * Bytes of short-lived buffers between two minor collections. With 8 MB they reached the growth that V8 allows for a
 * heap as small as the daemon's, and it collected the whole heap several times a second during a pull. With 1 MB the
 * buffers still in use would be promoted after two collections, and then only a major collection frees them.
 */
const youngBytes = 3 * 1024 * 1024;
let passedBytes = 0;

/**
 * Counts a stream's buffer that will soon be garbage. Its bytes lie outside the heap, so V8 hardly notices it: it would
 * let tens of megabytes accumulate and then collect the whole heap, a pause of about 20 ms instead of the 0.5 ms here.
 */
export function passedBuffer(bytes: number): void {
  passedBytes += bytes;
  if (passedBytes < youngBytes) return;
  passedBytes = 0;
  collect("minor");
}

let streams = 0;

/**
 * Until disposed of, the 64 KiB buffers into which Node.js reads from sockets reuse the memory of freed ones: mapping
 * each anew takes a fault per page, a tenth of the CPU time of a pull. When idle they would leave permanent holes.
 */
export function reuseBuffers(): Disposable {
  const host = ownHost();
  if (streams === 0) host.reuseFreedBuffers();
  streams += 1;
  return {
    [Symbol.dispose]: () => {
      streams -= 1;
      if (streams > 0) return;
      host.limitKeptMemory();
      host.trimHeap();
    },
  };
}

/** How often to check whether the daemon has grown. */
const checkEveryMs = 10_000;
/** Growth in bytes that is worth a collection in an idle daemon. */
const grownWhileIdle = 2 * 1024 * 1024;
/** A collection pauses a busy daemon, so there it must have grown by a quarter. */
const grownWhileBusy = 1.25;
/** Bytes of program pages worth dropping: those still needed take a page fault per 64 KiB, which delays calls. */
const grownProgram = { idle: 8 * 1024 * 1024, busy: 24 * 1024 * 1024 };
/** Checks between two drops of program pages: even an idle node gets a request every few seconds. */
const checksBetweenDrops = 6;
/** A daemon is idle if its event loop was busy for at most this share of the time since the last check. */
const idleShare = 0.05;

/** Resident bytes of a process: anonymous memory, and file mappings, mostly the program itself. */
export interface Resident {
  readonly own: number;
  readonly ofFiles: number;
}

/**
 * Until disposed of, returns memory left behind by many short calls, each too small to trigger it: V8 has no reason to
 * collect it before there is more. Also drops pages of Node.js itself, most of which only a start and a pull need: 20
 * to 40 of 48 MB are returned.
 */
export function giveBackWhenGrown(
  host: Pick<Host, "trimHeap" | "letGoOfProgram">,
  self: { readonly resident: () => Resident; readonly collect: () => void } = { resident, collect },
): Disposable {
  let before = performance.eventLoopUtilization();
  let smallest: Resident = { own: 0, ofFiles: 0 };
  let checks = checksBetweenDrops;
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const idle = performance.eventLoopUtilization(now, before).utilization <= idleShare;
    before = now;
    const { own, ofFiles } = self.resident();
    smallest = { own: Math.min(smallest.own, own), ofFiles: Math.min(smallest.ofFiles, ofFiles) };
    if (own >= (idle ? smallest.own + grownWhileIdle : smallest.own * grownWhileBusy)) {
      self.collect();
      host.trimHeap();
      smallest = { ...smallest, own: self.resident().own };
    }
    checks += 1;
    if (checks >= checksBetweenDrops && ofFiles >= smallest.ofFiles + (idle ? grownProgram.idle : grownProgram.busy)) {
      checks = 0;
      host.letGoOfProgram();
      smallest = { ...smallest, ofFiles: self.resident().ofFiles };
    }
  }, checkEveryMs);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** RssAnon and RssFile of this process, proc_pid_status(5). */
function resident(): Resident {
  const status = readFileSync("/proc/self/status", "utf8");
  const bytes = (name: string): number => {
    const [, kilobytes = "0"] = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status) ?? [];
    return Number(kilobytes) * 1024;
  };
  return { own: bytes("RssAnon"), ofFiles: bytes("RssFile") };
}

/** Delay until a collection, so that its pause (about 20 ms) falls into a quiet moment. */
const quietMs = 1_000;

export class MemoryReturn {
  readonly #host: Pick<Host, "trimHeap">;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: Pick<Host, "trimHeap">) {
    this.#host = host;
  }

  /** Call after producing much garbage: memory is returned once this has not been called for a while. */
  soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      collect();
      this.#host.trimHeap();
    }, quietMs);
    this.#timer.unref();
  }
}
