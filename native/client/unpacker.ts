// Runs keelson-unpack (native/unpack/): one process for each layer, fed with the compressed bytes.
//
// The process reads bytes of strangers, so its answer is not trusted either: bounds are `answerLimit`, those of
// program.ts, and what waits for it (`inputBuffer`).

import { Writable } from "node:stream";
import { asString, type JsonObject, member, parseObject } from "../json/json.ts";
import { type Program, type ProgramEnd, startProgram } from "../processes/program.ts";
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

/**
 * Starts unpacking one layer (tar, plain or gzip or zstd) with the keelson-unpack at `binaryPath`.
 * `report` rejects with InvalidArgument for a damaged or hostile layer, ResourceExhausted past a limit or on a full
 * disk, AlreadyExists when directory or blob are taken, FailedPrecondition when the process does not start,
 * Cancelled after abort(), and Internal for the rest.
 */
export function unpackLayer(binaryPath: string, options: UnpackOptions): LayerUnpack {
  const program = startProgram(binaryPath, commandLine(options), {
    env: {},
    stdin: "pipe",
    stdout: { limit: answerLimit },
  });
  let aborted = false;
  const abort = () => {
    aborted = true;
    program.kill();
  };
  const report = readReport(program, binaryPath, options.directory, () => aborted);
  const input = feed(program.stdin, report, abort);
  report.catch((error: Error) => input.destroy(error));
  return { input, report, abort };
}

function commandLine(options: UnpackOptions): string[] {
  const words = ["--directory", options.directory];
  words.push("--max-bytes", String(options.maxBytes), "--max-inodes", String(options.maxInodes));
  if (options.blobPath !== undefined) words.push("--blob", options.blobPath);
  return words;
}

function feed(stdin: Promise<Writable | undefined>, report: Promise<LayerReport>, abort: () => void): Writable {
  // A broken pipe is never the whole story: the process says in its report why it stopped reading.
  const settle = (broken: Error | null | undefined, done: (error?: Error | null) => void) => {
    if (!broken) done();
    else report.then(() => done(broken), done);
  };
  const pipe = stdin.then((stream) => stream?.on("error", () => undefined));
  const input = new Writable({
    highWaterMark: inputBuffer,
    async write(chunk: Buffer, _encoding, done) {
      const stream = await pipe;
      if (stream === undefined) settle(new Error("not started"), done);
      else stream.write(chunk, (broken) => settle(broken, done));
    },
    async final(done) {
      const stream = await pipe;
      if (stream === undefined) settle(new Error("not started"), done);
      else stream.end((broken?: Error | null) => settle(broken, done));
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
  program: Program,
  binary: string,
  directory: string,
  wasAborted: () => boolean,
): Promise<LayerReport> {
  const end = await program.end.catch((error: Error) => {
    throw unpackerErrors.unpackerNotStarted({ binary, problem: error.message }, error);
  });
  const said = parseObject(end.stdout);
  const report = end.code === 0 && said !== undefined ? parseReport(said) : undefined;
  if (report !== undefined) return report;
  const failure = parseFailure(said);
  if (failure !== undefined) throw fromUnpacker(failure, directory);
  if (wasAborted()) throw unpackerErrors.unpackAborted({ directory });
  const words = end.stderr.trim().replaceAll(/\s+/g, " ").replace(/\.$/, "");
  const how = howEnded(end);
  throw unpackerErrors.unpackerDied({ directory, how: words === "" ? how : `${how} (${words})` });
}

function howEnded({ code, signal, tooLong }: ProgramEnd): string {
  if (tooLong) return `killed after more than ${answerLimit} bytes`;
  return signal === null ? `exit code ${code}` : `killed by ${signal}`;
}

function parseReport(answer: JsonObject): LayerReport | undefined {
  const digest = asString(member(answer, "digest"));
  const diffId = asString(member(answer, "diff_id"));
  const size = parseCount(member(answer, "size"));
  const unpackedBytes = parseCount(member(answer, "unpacked_bytes"));
  const inodes = parseCount(member(answer, "inodes"));
  if (digest === undefined || diffId === undefined) return undefined;
  if (size === undefined || unpackedBytes === undefined || inodes === undefined) return undefined;
  return { digest, size, diffId, unpackedBytes, inodes };
}

function parseCount(value: unknown): bigint | undefined {
  return typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}
