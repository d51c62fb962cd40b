// Runs keelson-unpack (native/unpack/): one process for each layer, which gets the compressed bytes on stdin.
//
// The process parses untrusted bytes, so its output is not trusted either. Limits: `outputLimit`, those of program.ts,
// and the input buffered for it (`inputBuffer`).

import { Writable } from "node:stream";
import { asString, type JsonObject, member, parseObject } from "../json/json.ts";
import { type Program, type ProgramEnd, startProgram } from "../processes/program.ts";
import { parseFailure } from "./failure.ts";
import { fromUnpacker, unpackerErrors } from "./unpacker-errors.ts";

export interface LayerReport {
  /** `sha256:…` of the input. */
  readonly digest: string;
  /** Size of the input in bytes. */
  readonly size: bigint;
  /** `sha256:…` of the decompressed tar. */
  readonly diffId: string;
  /** Decompressed bytes of file content written. */
  readonly unpackedBytes: bigint;
  /** Files, directories, links … created, including those that a later entry replaced. */
  readonly inodes: bigint;
}

export interface UnpackOptions {
  /** Existing empty directory that becomes the layer's root, in overlayfs form. */
  readonly directory: string;
  /** File to which the input is also written, if given; it must not exist. */
  readonly blobPath?: string;
  /** Limit for the layer's bytes, both as input and decompressed. */
  readonly maxBytes: bigint;
  readonly maxInodes: bigint;
}

/** One layer being unpacked: write the blob's bytes to `input`, end it, await `report`. */
export interface LayerUnpack {
  /**
   * Accepts the bytes with back-pressure. If the unpacker fails early, it is destroyed with the error that `report`
   * rejects with. Destroying it before its end is the same as abort().
   */
  readonly input: Writable;
  /** Settles once the process has exited; may be left unhandled. */
  readonly report: Promise<LayerReport>;
  /** Kills the process; `report` rejects. The caller must remove the directory and the blob file. */
  abort(): void;
}

/** Input buffered in the daemon per layer, in bytes. */
const inputBuffer = 256 * 1024;
const outputLimit = 64 * 1024;

/**
 * Starts unpacking one layer (tar, uncompressed or gzip or zstd) with the keelson-unpack at `binaryPath`.
 * `report` rejects with InvalidArgument for a damaged or hostile layer, ResourceExhausted past a limit or on a full
 * disk, AlreadyExists if the directory is not empty or the blob exists, FailedPrecondition if the process does not
 * start, Cancelled after abort(), and Internal otherwise.
 */
export function unpackLayer(binaryPath: string, options: UnpackOptions): LayerUnpack {
  const program = startProgram(binaryPath, commandLine(options), {
    env: {},
    stdin: "pipe",
    stdout: { limit: outputLimit },
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
  // A broken pipe is not the cause: the process reports why it stopped reading.
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
  if (tooLong) return `killed after more than ${outputLimit} bytes`;
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
