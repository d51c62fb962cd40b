// Client calls to a gRPC server on a Unix socket, with a deadline and a signal to cancel them: a promise for a unary
// response, an iterator for a stream.

import { Client, type ClientOptions, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Writer } from "protobufjs/minimal.js";

const receiveLimit = 16 << 20;

export interface Codec<Properties, Message> {
  encode(message: Properties): Writer;
  decode(bytes: Uint8Array): Message;
}

export interface CallLimits {
  /** Overrides the method's own deadline. */
  readonly ms?: number;
  /** Cancels the call, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export function connectCalls(socket: string, options: ClientOptions = {}) {
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": receiveLimit,
    ...options,
  });

  /** `defaultMs` is the default deadline. */
  const method = <Request, Response>(
    path: `/${string}`,
    request: Codec<Request, unknown>,
    response: Codec<never, Response>,
    defaultMs: number,
  ) => {
    const { encode, decode } = onWire(request, response);
    return async (message: Request, { ms = defaultMs, signal }: CallLimits = {}): Promise<Response> => {
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

  /** Leaving the loop over the responses cancels the call. */
  const stream = <Request, Response>(
    path: `/${string}`,
    request: Codec<Request, unknown>,
    response: Codec<never, Response>,
    defaultMs: number,
  ) => {
    const { encode, decode } = onWire(request, response);
    return async function* (message: Request, { ms = defaultMs, signal }: CallLimits = {}): AsyncGenerator<Response> {
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
        // A caller that leaves early does not care how the call ends.
        call.on("error", () => undefined).cancel();
      }
    };
  };
  return { client, method, stream };
}

/** The error of a call that the server, or the library itself, answered with a status. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && typeof error.details === "string";
}

/** Serializers in the form that grpc-js takes. */
function onWire<Request, Response>(request: Codec<Request, unknown>, response: Codec<never, Response>) {
  return {
    encode: (message: Request) => Buffer.from(request.encode(message).finish()),
    decode: (bytes: Buffer) => response.decode(bytes),
  };
}
