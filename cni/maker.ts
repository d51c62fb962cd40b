// Whose program a plugin's file is, told by a mark in it: the CNI project's own plugins have the package path that Go leaves
// in them, Keelson's a line of their usage. Nothing else is known of any other's.

import { open } from "node:fs/promises";
import { statPlugin } from "./plugin.ts";

export type Maker = "cni-project" | "keelson";

const elf = Buffer.from("\x7fELF", "latin1");
const marks: readonly (readonly [Maker, string])[] = [
  // debug/buildinfo of Go: "path", a tab, and the main package's.
  ["cni-project", "path\tgithub.com/containernetworking/plugins/plugins/"],
  // native/cni/main.cc.
  ["keelson", "standard input, which it reads before it does anything."],
];
/** Larger than any of theirs. */
const maxBytes = 32 << 20;
/** Plugins are megabytes: they are looked through piece by piece, each with the end of the one before. */
const pieceBytes = 128 << 10;
const overlapBytes = Math.max(...marks.map(([, mark]) => mark.length));

interface Looked {
  /** Of the file as it was then. */
  readonly identity: string;
  maker: Maker | undefined;
}

const looked = new Map<string, Looked>();

/** Undefined also of a file that nobody has looked into yet: that is done now, for the next time. */
export function makerOf(path: string): Maker | undefined {
  const found = statPlugin(path);
  if (found === undefined) return undefined;
  const { dev, ino, size, mtimeMs, ctimeMs } = found;
  const identity = [dev, ino, size, mtimeMs, ctimeMs].join(" ");
  const before = looked.get(path);
  if (before?.identity === identity) return before.maker;
  const now: Looked = { identity, maker: undefined };
  looked.set(path, now);
  if (size <= maxBytes) {
    markIn(path).then(
      (maker) => {
        now.maker = maker;
      },
      () => undefined,
    );
  }
  return undefined;
}

async function markIn(path: string): Promise<Maker | undefined> {
  await using file = await open(path);
  const buffer = Buffer.alloc(overlapBytes + pieceBytes);
  let kept = 0;
  for (let first = true; ; first = false) {
    const { bytesRead } = await file.read(buffer, kept, pieceBytes);
    const piece = buffer.subarray(0, kept + bytesRead);
    if (bytesRead === 0 || (first && !piece.subarray(0, elf.length).equals(elf))) return undefined;
    const found = marks.find(([, mark]) => piece.includes(mark));
    if (found !== undefined) return found[0];
    kept = Math.min(overlapBytes, piece.length);
    piece.copyWithin(0, piece.length - kept);
  }
}
