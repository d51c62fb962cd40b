// The gRPC server on its Unix socket.

import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { isDoneWithin, type Log, logAcceptErrors } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { type CallContext, type InFlight, messageLimit, refusedCall } from "./call.ts";
import { leaveFarDeadlines } from "./far-deadlines.ts";
import type { Method } from "./methods.ts";
import { type Inherited, placeSocket } from "./socket.ts";

/** Part of a stop's grace period in which a client that has just connected can still send its call. */
const settleMilliseconds = 50;
/** Time after the grace period in which aborted calls can undo their steps. */
const undoMilliseconds = 300;

export interface Service {
  readonly definition: ServiceDefinition;
  implement(context: CallContext): UntypedServiceImplementation;
}

export interface GrpcServer {
  /**
   * Stops accepting connections, ends streams and, after `graceMilliseconds`, the other calls (with Unavailable); then
   * removes the socket, unless it was inherited: clients wait there for the next server. Completes within the grace
   * period plus a third of a second.
   */
  close(graceMilliseconds: number): Promise<void>;
  callsInFlight(): number;
}

/** A service with every method registered; methods without a handler return Unimplemented. */
export function service<Runs>(
  name: string,
  methods: { readonly [Name in keyof Runs]: Method<Runs[Name]> },
  handlers: { readonly [Name in keyof Runs]?: Runs[Name] },
  version: string,
): Service {
  const definition: Record<string, MethodDefinition<Uint8Array, Uint8Array>> = {};
  for (const method in methods) {
    definition[method] = {
      path: `/${name}/${method}`,
      requestStream: false,
      responseStream: methods[method].kind === "stream",
      requestSerialize: asBuffer,
      requestDeserialize: (bytes) => bytes,
      responseSerialize: asBuffer,
      responseDeserialize: (bytes) => bytes,
    };
  }
  const implement = (context: CallContext) => {
    const implementation: UntypedServiceImplementation = {};
    for (const method in methods) {
      const run = handlers[method];
      implementation[method] =
        run === undefined
          ? refusedCall(method, methods[method].kind, criErrors.notImplemented({ version, method }), context)
          : methods[method].connect(method, run, context);
    }
    return implementation;
  };
  return { definition, implement };
}

/** Listens on a path or an inherited socket, or rejects with the reason why it cannot. */
export async function startGrpcServer(
  place: string | Inherited,
  services: readonly Service[],
  log: Log,
): Promise<GrpcServer> {
  const inFlight: InFlight = new Set();
  const server = new Server({
    "grpc.max_receive_message_length": messageLimit,
    "grpc.max_send_message_length": messageLimit,
    "grpc.enable_channelz": 0,
  });
  for (const { definition, implement } of services) server.addService(definition, implement({ log, inFlight }));
  // grpc-js itself can only listen on addresses, not on descriptors.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createServer((connection) => injector.injectConnection(connection));
  const listen = async (on: { path: string } | { fd: number }) => {
    listener.listen(on);
    await once(listener, "listening");
  };
  if (typeof place === "string") await placeSocket(place, async (path) => await listen({ path }));
  else await listen({ fd: place.descriptor });
  logAcceptErrors(listener, "the CRI server", log);
  const keepDeadlines = leaveFarDeadlines();

  return {
    callsInFlight: () => inFlight.size,
    async close(graceMilliseconds) {
      listener.close();
      const settling = Math.min(settleMilliseconds, graceMilliseconds);
      await delay(settling);
      const ended = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      endCalls(inFlight, "stream");
      await isDoneWithin(ended, graceMilliseconds - settling);
      endCalls(inFlight, "unary");
      await isDoneWithin(ended, undoMilliseconds);
      server.forceShutdown();
      keepDeadlines();
      if (typeof place === "string") await rm(place, { force: true });
    },
  };
}

function endCalls(inFlight: InFlight, kind: "unary" | "stream"): void {
  for (const call of [...inFlight]) if (call.kind === kind) call.end();
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
