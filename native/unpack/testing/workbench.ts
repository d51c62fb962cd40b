// A directory in which tests run the real keelson-unpack, next to "host" files that it must not touch.

import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { type TarEntry, tar } from "./tar.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const built = fileURLToPath(new URL("../../build/", import.meta.url));

/** The plain binary and the one with AddressSanitizer and UndefinedBehaviorSanitizer. */
export const builds = [
  { build: "plain", binary: `${built}keelson-unpack` },
  { build: "sanitize", binary: `${built}sanitize/keelson-unpack` },
] as const;

/** The other build is about ten times slower and gets smaller amounts of the bulk tests. */
export const isPlain = (build: string) => build === "plain";

export interface Answer {
  readonly exitCode: number | null;
  readonly output: Readonly<Record<string, unknown>>;
  readonly stderr: string;
}

/** The answer that refuses a layer, for toMatchObject. */
export function refused(message: string | RegExp, kind = "invalid") {
  return { exitCode: 1, stderr: "", output: { kind, message: expect.stringMatching(message) } };
}

export interface Workbench {
  readonly directory: string;
  /** Creates `layer`, unpacks `bytes` into it, and parses the output. */
  unpack(bytes: Buffer, layer: string, limits?: { maxBytes?: number; maxInodes?: number; blob?: string }): Answer;
  /** Unpacks entries, which must succeed; returns the layer's inodes by path. */
  unpacked(layer: string, ...entries: TarEntry[]): Map<string, Record<string, unknown>>;
  /** Unpacks each of `layers` into a directory of its name; the answers are in the same order. */
  unpackEach(layers: readonly (readonly [layer: string, bytes: Buffer])[]): Answer[];
  /** A directory beside the layers that none of them may touch, with things worth attacking. */
  readonly host: string;
  /** Everything about `host` that would show a change, including change times. */
  hostState(): string[];
  /** The output of tree.py for a directory, one line for each inode. */
  tree(name: string): string[];
  path(...names: string[]): string;
  remove(): void;
}

export function makeWorkbench(binary: string): Workbench {
  if (!existsSync(binary)) throw new Error(`${binary} is missing: run make -C native all sanitize`);
  const directory = mkdtempSync(path.join(tmpdir(), "keelson-unpack-test-"));
  const at = (...names: string[]) => path.join(directory, ...names);
  mkdirSync(at("host", "etc"), { recursive: true, mode: 0o700 });
  writeFileSync(at("host", "victim"), "untouched", { mode: 0o600 });
  writeFileSync(at("host", "etc", "passwd"), "root", { mode: 0o644 });
  const unpack: Workbench["unpack"] = (bytes, layer, limits = {}) => {
    mkdirSync(at(layer));
    const words = ["--directory", at(layer), "--max-bytes", String(limits.maxBytes ?? 1e9)];
    words.push("--max-inodes", String(limits.maxInodes ?? 1e6));
    if (limits.blob !== undefined) words.push("--blob", limits.blob);
    const ran = spawnSync(binary, words, { input: bytes, maxBuffer: 1e6, timeout: 120_000 });
    return { exitCode: ran.status, output: parse(ran.stdout), stderr: ran.stderr.toString() };
  };
  return {
    directory,
    host: at("host"),
    hostState: () => ["", "victim", "etc", "etc/passwd"].map((name) => stateOf(at("host", name))),
    path: at,
    tree: (name) => treeOf(at(name)),
    unpack,
    unpacked(layer, ...entries) {
      expect(unpack(tar(...entries), layer)).toMatchObject({ exitCode: 0, stderr: "" });
      return inodes(at(layer));
    },
    unpackEach(layers) {
      for (const [layer, bytes] of layers) {
        mkdirSync(at(layer));
        writeFileSync(at(`${layer}.in`), bytes);
      }
      const names = layers.map(([layer]) => at(layer));
      const ran = spawnSync("sh", ["-c", eachScript, "sh", binary, ...names], { timeout: 120_000 });
      const exitCodes = ran.stdout.toString().trimEnd().split("\n");
      expect(exitCodes).toHaveLength(names.length);
      return names.map((name, i) => ({
        exitCode: Number(exitCodes[i]),
        output: parse(readFileSync(`${name}.out`)),
        stderr: readFileSync(`${name}.err`, "utf8"),
      }));
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** A shell spawns many processes in the time that this process, with its large memory, forks a few. */
const eachScript = `
binary=$1
shift
for layer; do
  "$binary" --directory "$layer" --max-bytes 1000000000 --max-inodes 1000000 <"$layer.in" >"$layer.out" 2>"$layer.err"
  echo $?
done`;

function stateOf(file: string): string {
  const status = lstatSync(file, { bigint: true });
  const content = status.isDirectory() ? readdirSync(file).sort() : readFileSync(file, "utf8");
  const { mode, uid, gid, ino, nlink, mtimeNs, ctimeNs } = status;
  return [file, mode, uid, gid, ino, nlink, mtimeNs, ctimeNs, content].join(" ");
}

export function treeOf(directory: string): string[] {
  return runPython("tree.py", directory).trimEnd().split("\n");
}

/** The same, parsed, by path. */
export function inodes(directory: string): Map<string, Record<string, unknown>> {
  return new Map(treeOf(directory).map((line) => [JSON.parse(line).path, JSON.parse(line)]));
}

/** Creates `directory` with one of everything that a layer may contain. */
export function makeSourceTree(directory: string): void {
  mkdirSync(directory);
  runPython("source-tree.py", directory);
}

function runPython(script: string, ...words: string[]): string {
  return execFileSync("python3", ["-IS", path.join(here, script), ...words], { maxBuffer: 1e9 }).toString();
}

function parse(text: Buffer): Record<string, unknown> {
  const value: unknown = JSON.parse(text.toString());
  if (typeof value !== "object" || value === null) throw new Error(`not an object: ${text}`);
  return Object.fromEntries(Object.entries(value));
}
