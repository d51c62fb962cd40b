// Port-forward: connects the client's stream pairs to connections inside the pod.
// Source: k8s.io/apimachinery pkg/util/httpstream; portforward.k8s.io (v1).

import type { Duplex } from "node:stream";
import { KeelsonError, Slots } from "../../native/index.ts";
import type { SpdyStream } from "./spdy/connection.ts";

/** The second stream of a pair must follow within this, milliseconds. */
const pairMs = 30_000;

/**
 * Concurrent connections of a session; more wait, as they would for a server that is slow to accept. A pod has 112
 * streams for all sessions, including exec, and if one is refused, Go's client ends its whole port-forward.
 */
export const maxForwarded = 96;

/** The message on the error stream when a connection could not be established. */
export function forwardFailure(reason: unknown): string {
  return reason instanceof KeelsonError ? reason.message : "Forwarding the port failed; see Keelson's log.";
}

interface Half {
  readonly error: SpdyStream;
  readonly timer: NodeJS.Timeout;
}

export class PortForwarding {
  readonly #connect: (port: number, signal: AbortSignal) => Promise<Duplex>;
  readonly #waiting = new Map<string, Half>();
  readonly #ended = new AbortController();
  readonly #places = new Slots(maxForwarded);

  constructor(connect: (port: number, signal: AbortSignal) => Promise<Duplex>) {
    this.#connect = connect;
  }

  /** Handles a new stream: the error stream of a pair, or the data stream that completes one. */
  open(stream: SpdyStream): void {
    const port = Number(stream.headers.get("port"));
    const type = stream.headers.get("streamtype");
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      stream.reset();
      return;
    }
    // Clients that send no request id pair their streams by stream id: data is error plus two.
    const request = stream.headers.get("requestid") ?? String(type === "data" ? stream.id - 2 : stream.id);
    if (type === "error") this.#await(request, stream);
    else if (type === "data") this.#complete(request, stream, port);
    else stream.reset();
  }

  close(): void {
    this.#ended.abort();
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }

  #await(request: string, error: SpdyStream): void {
    if (this.#waiting.has(request)) {
      error.reset();
      return;
    }
    error.resume();
    const timer = setTimeout(() => {
      this.#waiting.delete(request);
      error.reset();
    }, pairMs);
    this.#waiting.set(request, { error, timer });
  }

  #complete(request: string, data: SpdyStream, port: number): void {
    const half = this.#waiting.get(request);
    if (half === undefined) {
      data.reset();
      return;
    }
    this.#waiting.delete(request);
    clearTimeout(half.timer);
    this.#forward(half.error, data, port).catch(() => {
      half.error.end();
      data.reset();
    });
  }

  async #forward(error: SpdyStream, data: SpdyStream, port: number): Promise<void> {
    const left = new AbortController();
    data.once("close", () => left.abort());
    await this.#places.take(AbortSignal.any([left.signal, this.#ended.signal]));
    let connection: Duplex;
    try {
      connection = await this.#connect(port, this.#ended.signal);
    } catch (reason) {
      this.#places.release();
      error.end(forwardFailure(reason), () => data.reset());
      return;
    }
    connection.once("close", () => this.#places.release());
    // Nothing more is sent there, and clients keep their side open until it ends, so it must not queue behind other
    // data.
    error.end();
    connection.on("error", () => data.reset());
    data.once("close", () => connection.destroy());
    // The client may have left while the connection was being established.
    if (data.destroyed) connection.destroy();
    data.pipe(connection);
    connection.pipe(data);
  }
}
