// Plugins started before their turn, so that a process is up when its configuration is ready: a Go program takes
// milliseconds until it reads, and the plugin before it mostly waits for the kernel and for programs of its own.
//
// Only programs that do nothing before they have read their configuration to its end: the CNI project's own plugins, by the
// package path that Go leaves in them, and Keelson's. Any other might look at a namespace that is not there yet, or hold a
// lock that the plugin before it needs.

import { open } from "node:fs/promises";
import type { Program } from "../native/index.ts";
import { type PluginStart, startPlugin, statPlugin } from "./plugin.ts";

const elf = Buffer.from("\x7fELF", "latin1");
const marks = [
  // debug/buildinfo of Go: "path", a tab, and the main package's.
  "path\tgithub.com/containernetworking/plugins/plugins/",
  // The usage of keelson-cni (native/cni/main.cc).
  "standard input, which it reads before it does anything.",
];
/** Larger than any of theirs. */
const maxBytes = 32 << 20;
/** Plugins are megabytes: they are looked through piece by piece, each with the end of the one before. */
const pieceBytes = 128 << 10;
const overlapBytes = Math.max(...marks.map((mark) => mark.length));

/** Of a chain's plugins, by their place in it; disposed of, those that have had no turn are killed. */
export class PluginsAhead implements Disposable {
  readonly #waiting = new Map<number, Program>();

  start(index: number, start: PluginStart | undefined): void {
    if (start !== undefined && readsFirst(start.path)) this.#waiting.set(index, startPlugin(start));
  }

  /** It is the caller's from now on. */
  take(index: number): Program | undefined {
    const program = this.#waiting.get(index);
    this.#waiting.delete(index);
    return program;
  }

  [Symbol.dispose](): void {
    for (const program of this.#waiting.values()) program.kill();
    this.#waiting.clear();
  }
}

interface Looked {
  /** Of the file as it was then. */
  readonly identity: string;
  readsFirst: boolean;
}

const looked = new Map<string, Looked>();

/** False also of a file that nobody has looked into yet: that is done now, for the next time. */
export function readsFirst(path: string): boolean {
  const found = statPlugin(path);
  if (found === undefined) return false;
  const { dev, ino, size, mtimeMs, ctimeMs } = found;
  const identity = [dev, ino, size, mtimeMs, ctimeMs].join(" ");
  const before = looked.get(path);
  if (before?.identity === identity) return before.readsFirst;
  const now: Looked = { identity, readsFirst: false };
  looked.set(path, now);
  if (size <= maxBytes) {
    isMarked(path).then(
      (marked) => {
        now.readsFirst = marked;
      },
      () => undefined,
    );
  }
  return false;
}

async function isMarked(path: string): Promise<boolean> {
  await using file = await open(path);
  const buffer = Buffer.alloc(overlapBytes + pieceBytes);
  let kept = 0;
  for (let first = true; ; first = false) {
    const { bytesRead } = await file.read(buffer, kept, pieceBytes);
    const piece = buffer.subarray(0, kept + bytesRead);
    if (bytesRead === 0 || (first && !piece.subarray(0, elf.length).equals(elf))) return false;
    if (marks.some((mark) => piece.includes(mark))) return true;
    kept = Math.min(overlapBytes, piece.length);
    piece.copyWithin(0, piece.length - kept);
  }
}
