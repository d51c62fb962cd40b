// Runs keelson-unpack (native/unpack/): one process for each layer, fed with the compressed bytes.
//
// The process reads bytes of strangers, so its answer is not trusted either: bounds are `answerLimit`,
// `complaintLimit`, and what waits for it (`inputBuffer`).

import { type ChildProcess, spawn } from "node:child_process";
import { type Readable, Writable } from "node:stream";
import { parseFailure } from "./failure.ts";
import { fromUnpacker, unpackerErrors } from "./unpacker-errors.ts";

export interface LayerReport {
  /** `sha256:…` of the bytes as fed. */
  readonly digest: string;
  /** Bytes as fed. */
  readonly size: bigint;
  /** `sha256:…` of the inflated tar. */
  readonly diffId: string;
  /** Inflated bytes of file content written. */
  readonly unpackedBytes: bigint;
  /** Files, directories, links … made; one that a later entry replaced counts too. */
  readonly inodes: bigint;
}

export interface UnpackOptions {
  /** Existing empty directory that becomes the layer's root, in overlayfs form. */
  readonly directory: string;
  /** File to write the fed bytes to as well (created, must not exist), or none. */
  readonly blobPath?: string;
  /** A layer must not have more bytes than this, neither as fed nor inflated. */
  readonly maxBytes: bigint;
  readonly maxInodes: bigint;
}

/** One layer on its way: write the blob's bytes to `input`, end it, await `report`. */
export interface LayerUnpack {
  /**
   * Takes the bytes with back-pressure. When the unpacker gives up early it is destroyed with the error that
   * `report` rejects with. Destroying it before its end is abort().
   */
  readonly input: Writable;
  /** Settles once the process is gone; may be left unwatched. */
  readonly report: Promise<LayerReport>;
  /** Kills the process; `report` rejects. The directory and the blob file are the caller's to remove. */
  abort(): void;
}

/** What a layer may keep waiting in the daemon, bytes. */
const inputBuffer = 256 * 1024;
const answerLimit = 64 * 1024;
const complaintLimit = 4 * 1024;

/**
 * Starts unpacking one layer (tar, plain or gzip or zstd) with the keelson-unpack at `binaryPath`.
 * `report` rejects with InvalidArgument for a damaged or hostile layer, ResourceExhausted past a limit or on a full
 * disk, AlreadyExists when directory or blob are taken, FailedPrecondition when the process does not start,
 * Cancelled after abort(), and Internal for the rest.
 */
export function unpackLayer(binaryPath: string, options: UnpackOptions): LayerUnpack {
  const child: ChildProcess = spawn(binaryPath, commandLine(options), { stdio: "pipe", env: {} });
  let aborted = false;
  const abort = () => {
    aborted = true;
    child.kill("SIGKILL");
  };
  const report = readReport(child, binaryPath, options.directory, () => aborted);
  const input = feed(child.stdin, report, abort);
  report.catch((error: Error) => input.destroy(error));
  return { input, report, abort };
}

function commandLine(options: UnpackOptions): string[] {
  const words = ["--directory", options.directory];
  words.push("--max-bytes", String(options.maxBytes), "--max-inodes", String(options.maxInodes));
  if (options.blobPath !== undefined) words.push("--blob", options.blobPath);
  return words;
}

/** There is no `stdin` when the process could not be started for want of descriptors. */
function feed(stdin: Writable | null, report: Promise<LayerReport>, abort: () => void): Writable {
  // A broken pipe is never the whole story: the process says in its report why it stopped reading.
  const settle = (broken: Error | null | undefined, done: (error?: Error | null) => void) => {
    if (!broken) done();
    else report.then(() => done(broken), done);
  };
  stdin?.on("error", () => undefined);
  const input = new Writable({
    highWaterMark: inputBuffer,
    write(chunk: Buffer, _encoding, done) {
      if (!stdin) settle(new Error("not started"), done);
      else stdin.write(chunk, (broken) => settle(broken, done));
    },
    final(done) {
      if (!stdin) settle(new Error("not started"), done);
      else stdin.end((broken?: Error | null) => settle(broken, done));
    },
    destroy(error, done) {
      if (!input.writableFinished) abort();
      done(error);
    },
  });
  input.on("error", () => undefined);
  return input;
}

async function readReport(
  child: ChildProcess,
  binary: string,
  directory: string,
  wasAborted: () => boolean,
): Promise<LayerReport> {
  const answer = collect(child.stdout, answerLimit);
  const complaints = collect(child.stderr, complaintLimit);
  const exit = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.on("error", (error) => reject(unpackerErrors.unpackerNotStarted({ binary, problem: error.message }, error)));
    child.on("close", (code, signal) => resolve({ code, signal }));
  });
  const said = parseAnswer(answer());
  const report = exit.code === 0 ? parseReport(said) : undefined;
  if (report !== undefined) return report;
  const failure = parseFailure(said);
  if (failure !== undefined) throw fromUnpacker(failure, directory);
  if (wasAborted()) throw unpackerErrors.unpackAborted({ directory });
  const how = exit.signal === null ? `exit code ${exit.code}` : `killed by ${exit.signal}`;
  const words = complaints().trim().replaceAll(/\s+/g, " ").replace(/\.$/, "");
  throw unpackerErrors.unpackerDied({ directory, how: words === "" ? how : `${how} (${words})` });
}

/** Gathers a stream's text; what comes past `limit` bytes is read and dropped. */
function collect(stream: Readable | null, limit: number): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  stream?.on("error", () => undefined);
  stream?.on("data", (chunk: Buffer) => {
    const part = chunk.subarray(0, limit - length);
    length += part.length;
    if (part.length > 0) chunks.push(part);
  });
  return () => Buffer.concat(chunks).toString();
}

function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseReport(value: unknown): LayerReport | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const digest: unknown = Reflect.get(value, "digest");
  const diffId: unknown = Reflect.get(value, "diff_id");
  const size = parseCount(Reflect.get(value, "size"));
  const unpackedBytes = parseCount(Reflect.get(value, "unpacked_bytes"));
  const inodes = parseCount(Reflect.get(value, "inodes"));
  if (typeof digest !== "string" || typeof diffId !== "string") return undefined;
  if (size === undefined || unpackedBytes === undefined || inodes === undefined) return undefined;
  return { digest, size, diffId, unpackedBytes, inodes };
}

function parseCount(value: unknown): bigint | undefined {
  return typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}
