// Calls of a gRPC server on a unix socket: a promise for each, with a deadline, and a signal to cancel it by.

import { Client, type ClientOptions, credentials, Metadata } from "@grpc/grpc-js";
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

export function connectUnary(socket: string, options: ClientOptions = {}) {
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
    return async (message: Request, { ms = usualMs, signal }: CallLimits = {}): Promise<Response> => {
      signal?.throwIfAborted();
      return await new Promise((resolve, reject) => {
        const call = client.makeUnaryRequest(
          path,
          (value: Request) => Buffer.from(request.encode(value).finish()),
          (bytes: Buffer) => response.decode(bytes),
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
  return { client, method };
}
