// The life of one RPC: decode, run, encode, log.

import type { Deadline, ServerUnaryCall, ServerWritableStream, sendUnaryData, UntypedHandleCall } from "@grpc/grpc-js";
import { beginWork, firstLine, type KeelsonError, type Log, type LogLevel, type Outcome } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { type Decoder, Encoded, type Encoder } from "./encoded.ts";
import { keelsonError, wireStatus } from "./grpc-status.ts";

/** Maximum message size in either direction, in bytes; the same as in kubelet and crictl. */
export const messageLimit = 16 * 1024 * 1024;

/** The client's deadline starts before the request is sent, so it may reset the stream this many ms early. */
const deadlineSlack = 100;

/** What an RPC's implementation gets to know about its call. */
export interface Call {
  /** Aborts with a KeelsonError when the client gives up, its deadline passes or the server stops. */
  readonly signal: AbortSignal;
  /** Ends the call with this error at once, even if its client does not read. */
  readonly abort: (reason: KeelsonError) => void;
  /** Resolves when the client has received the response, or disconnected. */
  readonly answered: Promise<void>;
}

/** A method's messages, and the level at which successful calls are logged. */
export interface Codecs<Request, Response> {
  readonly request: Decoder<Request>;
  readonly response: Encoder<Response>;
  readonly level: LogLevel;
}

export type RunUnary<Request, Response> = (request: Request, call: Call) => Promise<Response | Encoded>;
export type RunStream<Request, Response> = (request: Request, call: Call) => AsyncIterable<Response | Encoded>;

/** The calls in progress, so that a stop can end them. */
export type InFlight = Set<{ readonly kind: "unary" | "stream"; readonly end: () => void }>;

export interface CallContext {
  readonly log: Log;
  readonly inFlight: InFlight;
}

/** A grpc-js handler for a unary method; requests and responses are bytes for grpc-js. */
export function unaryCall<Request, Response>(
  name: string,
  codecs: Codecs<Request, Response>,
  run: RunUnary<Request, Response>,
  context: CallContext,
) {
  return async (grpcCall: ServerUnaryCall<Buffer, Uint8Array>, reply: sendUnaryData<Uint8Array>): Promise<void> => {
    const call = new RunningCall(name, "unary", grpcCall, context);
    try {
      const request = decode(name, codecs.request, grpcCall.request);
      call.about(request);
      const response = await run(request, call);
      call.about(response);
      const bytes = encode(name, codecs.response, response);
      call.finish(codecs.level);
      reply(null, bytes);
    } catch (error) {
      reply(wireStatus(call.fail(error)));
    }
  };
}

/** A grpc-js handler for a server-streaming method; waits for the client when it reads slowly. */
export function streamCall<Request, Response>(
  name: string,
  codecs: Codecs<Request, Response>,
  run: RunStream<Request, Response>,
  context: CallContext,
) {
  return async (grpcCall: ServerWritableStream<Buffer, Uint8Array>): Promise<void> => {
    const call = new RunningCall(name, "stream", grpcCall, context);
    try {
      const request = decode(name, codecs.request, grpcCall.request);
      call.about(request);
      for await (const response of run(request, call)) {
        if (call.signal.aborted) break;
        if (!grpcCall.write(encode(name, codecs.response, response))) await drained(grpcCall, call.signal);
      }
      call.signal.throwIfAborted();
      call.finish(codecs.level);
      grpcCall.end();
    } catch (error) {
      grpcCall.emit("error", wireStatus(call.fail(error)));
    }
  };
}

/** A grpc-js handler that answers every call with `error`. */
export function refusedCall(
  name: string,
  kind: "unary" | "stream",
  error: KeelsonError,
  context: CallContext,
): UntypedHandleCall {
  if (kind === "stream") {
    return (grpcCall: ServerWritableStream<Buffer, Uint8Array>) => {
      grpcCall.emit("error", wireStatus(new RunningCall(name, kind, grpcCall, context).fail(error)));
    };
  }
  return (grpcCall: ServerUnaryCall<Buffer, Uint8Array>, reply: sendUnaryData<Uint8Array>) => {
    reply(wireStatus(new RunningCall(name, kind, grpcCall, context).fail(error)));
  };
}

/** The parts common to both kinds: the abort signal, the log line, the entry among the in-flight calls. */
class RunningCall implements Call {
  readonly signal: AbortSignal;
  readonly abort: (reason: KeelsonError) => void;
  readonly answered: Promise<void>;
  readonly #name: string;
  readonly #context: CallContext;
  readonly #started = performance.now();
  readonly #subjects: Record<string, string> = {};
  readonly #done: (code: Outcome) => void;

  constructor(
    name: string,
    kind: "unary" | "stream",
    grpcCall: { on(event: "cancelled", listener: () => void): unknown; getDeadline(): Deadline },
    context: CallContext,
  ) {
    const controller = new AbortController();
    const entry = { kind, end: () => controller.abort(criErrors.stopping({ method: name })) };
    this.signal = controller.signal;
    this.abort = (reason) => controller.abort(reason);
    this.#name = name;
    this.#context = context;
    const over = beginWork("call", () => [name, ...Object.values(this.#subjects)].join(" "), name);
    this.#done = (code) => {
      context.inFlight.delete(entry);
      over(code);
    };
    context.inFlight.add(entry);
    const answered = Promise.withResolvers<void>();
    this.answered = answered.promise;
    // grpc-js emits "cancelled" for a reset, a lost connection and an expired deadline, and also when the stream closes
    // after a completed call.
    grpcCall.on("cancelled", () => {
      answered.resolve();
      if (!context.inFlight.has(entry)) return;
      const late = Number(grpcCall.getDeadline()) - Date.now() < deadlineSlack;
      controller.abort((late ? criErrors.deadlinePassed : criErrors.callCancelled)({ method: name }));
    });
  }

  /** Adds the message's ids and image names to the log line. */
  about(message: unknown): void {
    Object.assign(this.#subjects, subjectsOf(message));
  }

  finish(level: LogLevel): void {
    this.#end(level, "OK");
  }

  fail(thrown: unknown): KeelsonError {
    const error = keelsonError(thrown, this.#name, this.signal);
    const unexpected = error.code === "Internal" ? { stack: stackOf(thrown) } : {};
    this.#end(error.code === "Internal" ? "error" : "info", error.code, { error: error.message, ...unexpected });
    return error;
  }

  #end(level: LogLevel, code: Outcome, more: Record<string, string> = {}): void {
    this.#done(code);
    const milliseconds = Math.round((performance.now() - this.#started) * 1000) / 1000;
    this.#context.log(level, "call", { method: this.#name, ...this.#subjects, milliseconds, code, ...more });
  }
}

/** Collects ids and image names, from the fields that CRI's requests and responses use for them. */
function subjectsOf(message: unknown): Record<string, string> {
  const subjects: Record<string, string> = {};
  if (typeof message !== "object" || message === null) return subjects;
  if ("podSandboxId" in message && typeof message.podSandboxId === "string") subjects.sandbox = message.podSandboxId;
  if ("containerId" in message && typeof message.containerId === "string") subjects.container = message.containerId;
  if ("imageRef" in message && typeof message.imageRef === "string") subjects.imageId = message.imageRef;
  if ("image" in message && typeof message.image === "object" && message.image !== null) {
    if ("image" in message.image && typeof message.image.image === "string") subjects.image = message.image.image;
  }
  return subjects;
}

function decode<Request>(method: string, decoder: Decoder<Request>, bytes: Buffer): Request {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw criErrors.undecodable({ method, reason: firstLine(error) }, error);
  }
}

function encode<Response>(method: string, encoder: Encoder<Response>, response: Response | Encoded): Uint8Array {
  const bytes = response instanceof Encoded ? response.bytes : encoder.encode(response).finish();
  if (bytes.length <= messageLimit) return bytes;
  throw criErrors.responseTooLarge({ method, size: bytes.length, limit: messageLimit });
}

function drained(stream: ServerWritableStream<Buffer, Uint8Array>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      stream.off("drain", settle);
      signal.removeEventListener("abort", settle);
      resolve();
    };
    stream.on("drain", settle);
    signal.addEventListener("abort", settle);
    if (signal.aborted) settle();
  });
}

function stackOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const cause = thrown.cause === undefined ? "" : `\ncaused by: ${stackOf(thrown.cause)}`;
  return `${thrown.stack ?? thrown.message}${cause}`;
}
