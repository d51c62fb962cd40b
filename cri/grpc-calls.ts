// Calls of a gRPC server on a unix socket, with a deadline, and a signal to cancel them by: a promise for an answer, an
// iterator for several.

import { Client, type ClientOptions, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Writer } from "protobufjs/minimal.js";

const receiveLimit = 16 << 20;

export interface Codec<Properties, Message> {
  encode(message: Properties): Writer;
  decode(bytes: Uint8Array): Message;
}

export interface CallLimits {
  /** In place of the method's own deadline. */
  readonly ms?: number;
  /** Cancels the call, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export function connectCalls(socket: string, options: ClientOptions = {}) {
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": receiveLimit,
    ...options,
  });

  /** `usualMs` is the deadline of a call that is given none. */
  const method = <Request, Response>(
    path: `/${string}`,
    request: Codec<Request, unknown>,
    response: Codec<never, Response>,
    usualMs: number,
  ) => {
    const { encode, decode } = onWire(request, response);
    return async (message: Request, { ms = usualMs, signal }: CallLimits = {}): Promise<Response> => {
      signal?.throwIfAborted();
      return await new Promise((resolve, reject) => {
        const call = client.makeUnaryRequest(
          path,
          encode,
          decode,
          message,
          new Metadata(),
          { deadline: Date.now() + ms },
          (error, value) => {
            signal?.removeEventListener("abort", cancel);
            if (value !== undefined) resolve(value);
            else if (signal?.aborted) reject(signal.reason);
            else reject(error ?? new Error(`${path} answered nothing`));
          },
        );
        const cancel = () => call.cancel();
        signal?.addEventListener("abort", cancel, { once: true });
      });
    };
  };

  /** Leaving the loop over the answers cancels the call. */
  const stream = <Request, Response>(
    path: `/${string}`,
    request: Codec<Request, unknown>,
    response: Codec<never, Response>,
    usualMs: number,
  ) => {
    const { encode, decode } = onWire(request, response);
    return async function* (message: Request, { ms = usualMs, signal }: CallLimits = {}): AsyncGenerator<Response> {
      signal?.throwIfAborted();
      const call = client.makeServerStreamRequest(path, encode, decode, message, new Metadata(), {
        deadline: Date.now() + ms,
      });
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
      try {
        for await (const answer of call) yield answer;
      } catch (error) {
        throw signal?.aborted ? signal.reason : error;
      } finally {
        signal?.removeEventListener("abort", cancel);
        // Whoever leaves early has no use for how the call ends.
        call.on("error", () => undefined).cancel();
      }
    };
  };
  return { client, method, stream };
}

/** What a call rejects with when the server, or the library in its place, has answered with a status. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.details === "string";
}

/** Messages to bytes and back, as grpc-js takes them. */
function onWire<Request, Response>(request: Codec<Request, unknown>, response: Codec<never, Response>) {
  return {
    encode: (message: Request) => Buffer.from(request.encode(message).finish()),
    decode: (bytes: Buffer) => response.decode(bytes),
  };
}
