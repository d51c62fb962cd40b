// The channels of one WebSocket connection: the first byte of a message names its channel. Input is buffered for its
// reader, and pauses the connection when the buffer is full.
// Source: k8s.io/apiserver pkg/util/wsstream.

import { Readable, Writable } from "node:stream";
import type { WebSocket } from "ws";

/** Larger chunks are split into pieces of this size, in either direction. */
const maxPiece = 32 << 10;
/** Interval of unsolicited pongs to a paused client, which also detect a dead one, milliseconds. */
const heartbeatMs = 5_000;

/**
 * Encodes and decodes messages of one channel each; base64 protocols have the channel as a digit and the data as text.
 */
export class ChannelWire {
  readonly #socket: WebSocket;
  readonly #base64: boolean;

  constructor(socket: WebSocket, base64: boolean) {
    this.#socket = socket;
    this.#base64 = base64;
  }

  decode(message: Buffer): [number: number, bytes: Buffer] {
    const first = message[0] ?? 0;
    const rest = message.subarray(1);
    return this.#base64 ? [first - 48, Buffer.from(rest.toString("latin1"), "base64")] : [first, rest];
  }

  send(number: number, bytes: Buffer, done: (error?: Error | null) => void = () => undefined): void {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      done(new Error("the client hung up"));
      return;
    }
    const message = this.#base64
      ? `${number}${bytes.toString("base64")}`
      : Buffer.concat([Buffer.from([number]), bytes]);
    this.#socket.send(message, done);
  }

  writable(number: number): Writable {
    const writable = new Writable({
      highWaterMark: 64 << 10,
      write: (chunk: Buffer, _encoding, done) => this.#pieces(number, chunk, done),
    });
    writable.on("error", () => undefined);
    return writable;
  }

  #pieces(number: number, chunk: Buffer, done: (error?: Error | null) => void): void {
    for (let at = 0; at < chunk.length; at += maxPiece) {
      const last = at + maxPiece >= chunk.length;
      this.send(number, chunk.subarray(at, at + maxPiece), last ? done : undefined);
    }
  }
}

/** Reads from the client only while no channel's buffer is full: an unread message blocks all messages behind it. */
export class Gate {
  readonly #socket: WebSocket;
  readonly #stallMs: number;
  /** The channels whose buffers are full, with the timers that destroy them if that lasts. */
  readonly #full = new Map<Inbound, NodeJS.Timeout | undefined>();
  #heartbeat: NodeJS.Timeout | undefined;

  /** `stallMs`: how long one channel may block the rest before it is destroyed; Infinity: without limit. */
  constructor(socket: WebSocket, stallMs: number) {
    this.#socket = socket;
    this.#stallMs = stallMs;
    socket.once("close", () => this.#end());
  }

  shut(input: Inbound): void {
    if (this.#full.has(input)) return;
    const late = () => input.destroy(new Error("the pod does not read the client's data"));
    this.#full.set(input, Number.isFinite(this.#stallMs) ? setTimeout(late, this.#stallMs) : undefined);
    this.#socket.pause();
    // Its pings are not read meanwhile, and a client that gets no pongs gives up; writing also detects a dead client.
    this.#heartbeat ??= setInterval(() => this.#socket.pong(), heartbeatMs);
  }

  open(input: Inbound): void {
    clearTimeout(this.#full.get(input));
    if (!this.#full.delete(input) || this.#full.size > 0) return;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    this.#socket.resume();
  }

  #end(): void {
    clearInterval(this.#heartbeat);
    for (const timer of this.#full.values()) clearTimeout(timer);
    this.#full.clear();
  }
}

/** The client's data on one channel. */
export class Inbound extends Readable {
  readonly #gate: Gate;
  #ended = false;

  constructor(gate: Gate) {
    super({ highWaterMark: 256 << 10 });
    this.#gate = gate;
    this.on("error", () => undefined);
  }

  deliver(bytes: Buffer): void {
    if (this.#ended || this.destroyed || bytes.length === 0) return;
    // In pieces, which the reader takes one by one, so that a large message is not passed on all at once.
    let hasRoom = true;
    for (let at = 0; at < bytes.length; at += maxPiece) hasRoom = this.push(bytes.subarray(at, at + maxPiece));
    if (!hasRoom) this.#gate.shut(this);
  }

  finish(): void {
    if (this.#ended || this.destroyed) return;
    this.#ended = true;
    this.push(null);
  }

  override _read(): void {
    this.#gate.open(this);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#gate.open(this);
    done(error);
  }
}
