// Gives memory back after work that took much of it: V8 collects no garbage of an idle daemon, and the C library keeps
// what was freed.

import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Host, ownHost } from "./host.ts";

let collector: NodeJS.GCFunction | undefined;

/**
 * Has V8 collect garbage, of the whole heap or of what is young. `node --expose-gc` would give this function too, but under
 * that flag V8 takes none of the compiled code that Node.js brings of its own modules: each start took 30 ms more of the
 * processor.
 */
export function collect(type: "major" | "minor" = "major"): void {
  collector ??= exposeCollector();
  // Always named: V8 takes an object without a type for a request to collect what is young.
  collector({ type });
}

function exposeCollector(): NodeJS.GCFunction {
  setFlagsFromString("--expose-gc");
  const exposed: NodeJS.GCFunction = runInNewContext("gc");
  // Compiled code that is kept for the next start (compiled-code.ts) carries the flags of this moment.
  setFlagsFromString("--no-expose-gc");
  return exposed;
}

/**
 * Of buffers that come and go, between two collections of what is young. With 8 MB they reached what V8 allows a heap as
 * small as a daemon's to grow by, and it collected the whole heap several times a second while an image came in. With 1 MB
 * those still under way would count as old after two collections, and only the whole heap's sees them then.
 */
const youngBytes = 3 * 1024 * 1024;
let passedBytes = 0;

/**
 * Tells of a buffer of a stream, soon garbage. V8 sees little of it, as its bytes lie outside the heap: it would let
 * tens of megabytes gather and then collect the whole heap, a pause of some 20 ms where this one takes 0.5.
 */
export function passedBuffer(bytes: number): void {
  passedBytes += bytes;
  if (passedBytes < youngBytes) return;
  passedBytes = 0;
  collect("minor");
}

let streams = 0;

/**
 * Until disposed of, the buffers into which Node.js reads from sockets, 64 KiB each, come out of memory that others of them
 * have left: each mapped anew takes a fault for each of its pages, a tenth of the processor time of a pull. At other times
 * they would leave holes for good.
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

/** How often it is looked whether the daemon has grown. */
const lookEveryMs = 10_000;
/** What is worth a collection in an idle daemon, bytes. */
const grownWhileIdle = 2 * 1024 * 1024;
/** One at work stops for it: there it must have grown by a quarter. */
const grownAtWork = 1.25;
/** Bytes of the program that are worth letting go of: those still needed take a fault for each 64 KiB, which calls wait for. */
const grownProgram = { idle: 8 * 1024 * 1024, atWork: 24 * 1024 * 1024 };
/** Looks from one letting go to the next: a node at rest is asked something every few seconds. */
const looksApart = 6;
/** The share of the time since the last look for which an idle daemon's event loop has worked at most. */
const idleShare = 0.05;

/** Bytes of a process in memory: its own, that no file stands behind, and those of files, its program first of all. */
export interface Resident {
  readonly own: number;
  readonly ofFiles: number;
}

/**
 * Until disposed of, gives back what many short calls have left behind, each of them too small to ask for it: V8 has no
 * reason to collect it before there is more. And of the pages of Node.js itself, of which a start and a pull need most, those
 * that are not needed any more: of 48 MB 20 to 40 come back.
 */
export function giveBackWhenGrown(
  host: Pick<Host, "trimHeap" | "letGoOfProgram">,
  self: { readonly resident: () => Resident; readonly collect: () => void } = { resident, collect },
): Disposable {
  let before = performance.eventLoopUtilization();
  let smallest: Resident = { own: 0, ofFiles: 0 };
  let looks = looksApart;
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const idle = performance.eventLoopUtilization(now, before).utilization <= idleShare;
    before = now;
    const { own, ofFiles } = self.resident();
    smallest = { own: Math.min(smallest.own, own), ofFiles: Math.min(smallest.ofFiles, ofFiles) };
    if (own >= (idle ? smallest.own + grownWhileIdle : smallest.own * grownAtWork)) {
      self.collect();
      host.trimHeap();
      smallest = { ...smallest, own: self.resident().own };
    }
    looks += 1;
    if (looks >= looksApart && ofFiles >= smallest.ofFiles + (idle ? grownProgram.idle : grownProgram.atWork)) {
      looks = 0;
      host.letGoOfProgram();
      smallest = { ...smallest, ofFiles: self.resident().ofFiles };
    }
  }, lookEveryMs);
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

/** The pause that a collection makes (some 20 ms) is for a quiet moment. */
const quietMs = 1_000;

export class MemoryReturn {
  readonly #host: Pick<Host, "trimHeap">;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: Pick<Host, "trimHeap">) {
    this.#host = host;
  }

  /** Much has become garbage: once nothing more does for a while, it is given back. */
  soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      collect();
      this.#host.trimHeap();
    }, quietMs);
    this.#timer.unref();
  }
}
