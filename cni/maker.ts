// Determines who made a plugin, by a marker in its file: the reference CNI plugins contain their Go package path,
// Keelson's a line of their usage text. Nothing is assumed about any other plugin.

import { open } from "node:fs/promises";
import { statPlugin } from "./plugin.ts";

export type Maker = "cni-project" | "keelson";

const elf = Buffer.from("\x7fELF", "latin1");
const marks: readonly (readonly [Maker, string])[] = [
  // Go's debug/buildinfo: "path", a tab, and the path of the main package.
  ["cni-project", "path\tgithub.com/containernetworking/plugins/plugins/"],
  // The usage text in native/cni/main.cc.
  ["keelson", "standard input, which it reads before it does anything."],
];
/** Larger than any plugin with a marker. */
const maxBytes = 32 << 20;
/** Plugins are several megabytes: they are searched in chunks, each overlapping the end of the previous one. */
const pieceBytes = 128 << 10;
const overlapBytes = Math.max(...marks.map(([, mark]) => mark.length));

interface Inspected {
  /** Identity of the file when it was inspected. */
  readonly identity: string;
  maker: Maker | undefined;
}

const inspected = new Map<string, Inspected>();

/** Also undefined for a file that has not been inspected yet: this starts the inspection, for the next call. */
export function makerOf(path: string): Maker | undefined {
  const found = statPlugin(path);
  if (found === undefined) return undefined;
  const { dev, ino, size, mtimeMs, ctimeMs } = found;
  const identity = [dev, ino, size, mtimeMs, ctimeMs].join(" ");
  const before = inspected.get(path);
  if (before?.identity === identity) return before.maker;
  const now: Inspected = { identity, maker: undefined };
  inspected.set(path, now);
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
