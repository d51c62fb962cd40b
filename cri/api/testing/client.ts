// A CRI client for tests that shares no code with the server: it uses reflection over api.proto.

import { join } from "node:path";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import protobuf from "protobufjs";

export type Answer = Record<string, unknown>;

export interface CallLimits {
  /** Milliseconds since the epoch. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

export interface TestClient {
  call(method: string, request?: object, limits?: CallLimits): Promise<Answer>;
  /** Sends a request given as bytes, and returns the raw bytes of the response. */
  callBytes(path: string, request: Uint8Array): Promise<Buffer>;
  stream(method: string, request: object, signal: AbortSignal): AsyncIterable<Answer>;
  close(): void;
}

const root = protobuf.loadSync([
  join(import.meta.dirname, "../api.proto"),
  join(import.meta.dirname, "../keelson.proto"),
]);

/** Responses have 64-bit numbers as decimal strings, bytes as Buffers, and every field, set or not. */
export function connect(socket: string): TestClient {
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
  });
  const callBytes = (path: string, request: Uint8Array, { signal, ...options }: CallLimits = {}) =>
    new Promise<Buffer>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        path,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes) => bytes,
        request,
        new Metadata(),
        options,
        (error, answer) => (error || !answer ? reject(error) : resolve(answer)),
      );
      signal?.addEventListener("abort", () => call.cancel());
    });
  return {
    async call(method, request = {}, limits = {}) {
      const { path, encode, decode } = rpc(method);
      return decode(await callBytes(path, encode(request), limits));
    },
    callBytes,
    async *stream(method, request, signal) {
      const { path, encode, decode } = rpc(method);
      const call = client.makeServerStreamRequest(
        path,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => bytes,
        encode(request),
        new Metadata(),
        {},
      );
      signal.addEventListener("abort", () => call.cancel());
      for await (const bytes of call) yield decode(bytes);
    },
    close: () => client.close(),
  };
}

/** The gRPC status that a call fails with. */
export async function failure(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  const error = await call.then(
    (answer) => {
      throw new Error(`the call succeeded: ${JSON.stringify(answer).slice(0, 300)}`);
    },
    (reason: ServiceError) => reason,
  );
  return { code: error.code, details: error.details };
}

function rpc(name: string) {
  for (const service of ["runtime.v1.RuntimeService", "runtime.v1.ImageService", "keelson.v1.Images"]) {
    const method = root.lookupService(service).methods[name];
    if (method === undefined) continue;
    const request = root.lookupType(`${service.replace(/\.\w+$/, "")}.${method.requestType}`);
    const response = root.lookupType(`${service.replace(/\.\w+$/, "")}.${method.responseType}`);
    return {
      path: `/${service}/${name}`,
      encode: (message: object) => request.encode(request.fromObject(message)).finish(),
      decode: (bytes: Uint8Array): Answer =>
        response.toObject(response.decode(bytes), { longs: String, enums: String, defaults: true }),
    };
  }
  throw new Error(`no RPC ${name}`);
}
