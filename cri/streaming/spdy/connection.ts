// One SPDY/3.1 connection, server side: streams opened by the client, each a Duplex with half-close.
//
// Backpressure: the Go peers neither respect nor grant stream windows. Receiving: a stream with a slow reader can only
// be throttled by not reading the connection. That also stalls the connection's other streams, for at most `stallMs`:
// then the slow stream is reset and the others continue. Sending: data waits in each stream for the socket and, if
// streams are independent, for the peer to read the stream (lanes.ts), so a peer that does not read fills only the
// streams' own buffers.

import { Duplex } from "node:stream";
import { closeMs } from "../connections.ts";
import { ControlType, controlFrame, dataFrame, type Frame, FrameParser, numbers, SpdyError } from "./frames.ts";
import { EmptyHeaders, HeaderDecoder } from "./headers.ts";
import { Lanes } from "./lanes.ts";

const maxStreams = 1000;
const streamBuffer = 256 << 10;
/** Maximum size of the DATA frames that we send. */
const maxDataBytes = 64 << 10;
/** Replies that may wait for the client to read them; beyond that its frames are not read until it has read some. */
const maxAnswers = 2000;
/** While the connection is not read, a disconnect goes unnoticed, so a PING is sent at this interval, milliseconds. */
const heartbeatMs = 5_000;
/**
 * Even, as all server ids, above those of lanes.ts, and not 0, at which Go's client ends all streams as if complete.
 */
const heartbeatId = 0xfffffffe;
const status = { protocolError: 1, refusedStream: 3, cancel: 5 } as const;

type Done = (error?: Error | null) => void;

export interface SpdyOptions {
  /** How long one stream's slow reader may stall the connection, milliseconds; Infinity: without limit. */
  readonly stallMs: number;
  /** The streams are unrelated: a stream that the peer does not read must not block the others. */
  readonly independent: boolean;
  readonly onStream: (stream: SpdyStream) => void;
}

export class SpdyConnection {
  /** Resolves when the connection has ended, for any reason. */
  readonly closed: Promise<void>;
  readonly #socket: Duplex;
  readonly #options: SpdyOptions;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #decoder = new HeaderDecoder();
  readonly #replyHeaders = new EmptyHeaders();
  readonly #lanes: Lanes | undefined;
  #lastStreamId = 0;
  #answers = 0;
  #onFewerAnswers: () => void = () => undefined;

  constructor(socket: Duplex, head: Buffer, options: SpdyOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("error", () => undefined);
    // Detects the end of the connection even while a stream waits for its reader.
    socket.once("close", () => this.#end());
    if (options.independent) {
      this.#lanes = new Lanes(
        (bytes, done) => this.#write(bytes, done),
        () => this.#replyHeaders.next(),
      );
    }
    this.closed = this.#read(head).finally(() => this.#end());
  }

  /** Sends queued data and GOAWAY, half-closes, then discards input until the client has closed its side. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#write(controlFrame(ControlType.goAway, 0, numbers(this.#lastStreamId, 0)));
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), closeMs);
    await this.closed.catch(() => undefined);
    clearTimeout(timer);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Sends a control frame without waiting for it. */
  answer(streamId: number, frame: () => Buffer): void {
    this.send(streamId, frame, this.#countAnswer());
  }

  /** Sends a stream's frame when its lane allows. */
  send(streamId: number, frame: () => Buffer, done: Done): void {
    if (this.#lanes === undefined) this.#write(frame(), done);
    else this.#lanes.send(streamId, frame, done);
  }

  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id);
    this.#lanes?.forget(stream.id);
  }

  /** Sends a PING: if the client's host is dead, the write error ends the connection. */
  beat(): void {
    this.#write(controlFrame(ControlType.ping, 0, numbers(heartbeatId)));
    this.#lanes?.tookTurn();
  }

  /** Frames after the half-close are dropped: writing one would destroy the connection, with data still to be read. */
  #write(bytes: Buffer, done: Done = () => undefined): void {
    if (this.#socket.writableEnded) done(new Error("the session is over"));
    else this.#socket.write(bytes, done);
  }

  async #read(head: Buffer): Promise<void> {
    const parser = new FrameParser();
    try {
      await this.#take(parser.feed(head));
      for await (const chunk of this.#socket) await this.#take(parser.feed(chunk));
    } catch (error) {
      if (error instanceof SpdyError && !this.#socket.destroyed) {
        this.#write(controlFrame(ControlType.goAway, 0, numbers(this.#lastStreamId, status.protocolError)));
      }
    }
  }

  /** Handles frames; those still unprocessed when the connection ends are dropped. */
  async #take(frames: Iterable<Frame>): Promise<void> {
    for (const frame of frames) {
      if (this.#socket.destroyed) return;
      const waiting = this.#handle(frame);
      if (waiting !== undefined) await waiting;
      if (this.#answers > maxAnswers && !this.#socket.destroyed) await this.#answersRead();
    }
  }

  /** Counts a reply as pending until the returned function is called, when it has been written. */
  #countAnswer(): () => void {
    this.#answers += 1;
    return () => {
      this.#answers -= 1;
      if (this.#answers <= maxAnswers) this.#onFewerAnswers();
    };
  }

  async #answersRead(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onFewerAnswers = resolve;
    });
  }

  #end(): void {
    this.#onFewerAnswers();
    this.#decoder.close();
    this.#lanes?.close();
    for (const stream of this.#streams.values()) stream.connectionLost();
    this.#streams.clear();
    this.#socket.destroy();
  }

  /** Returns a promise if the next frame must wait. */
  #handle(frame: Frame): Promise<void> | undefined {
    switch (frame.kind) {
      case "data":
        return this.#streams.get(frame.streamId)?.deliver(frame.bytes, frame.fin, this.#options.stallMs);
      case "syn-stream":
        return this.#open(frame);
      case "headers":
        return this.#takeHeaders(frame);
      case "rst-stream":
        this.#lanes?.streamAnswered(frame.streamId);
        this.#streams.get(frame.streamId)?.connectionLost();
        return undefined;
      case "ping":
        this.#takePing(frame.id);
        return undefined;
      case "go-away":
      case "ignored":
        return undefined;
    }
  }

  async #takeHeaders({ streamId, fin, block }: Extract<Frame, { kind: "headers" }>): Promise<void> {
    await this.#decoder.decode(block);
    this.#lanes?.streamAnswered(streamId);
    if (fin) await this.#streams.get(streamId)?.deliver(Buffer.alloc(0), true, 0);
  }

  /** The client's ids are odd; an even one is a reply to ours. */
  #takePing(id: number): void {
    if (id % 2 === 0) {
      this.#lanes?.pingAnswered(id);
      return;
    }
    this.#write(controlFrame(ControlType.ping, 0, numbers(id)), this.#countAnswer());
    this.#lanes?.tookTurn();
  }

  async #open({ streamId, fin, block }: Extract<Frame, { kind: "syn-stream" }>): Promise<void> {
    const headers = await this.#decoder.decode(block);
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) throw new SpdyError(`a stream with the id ${streamId}`);
    this.#lastStreamId = streamId;
    if (this.#streams.size >= maxStreams) {
      this.answer(streamId, () => controlFrame(ControlType.rstStream, 0, numbers(streamId, status.refusedStream)));
      return;
    }
    const stream = new SpdyStream(this, streamId, headers);
    this.#streams.set(streamId, stream);
    this.answer(streamId, () =>
      controlFrame(ControlType.synReply, 0, Buffer.concat([numbers(streamId), this.#replyHeaders.next()])),
    );
    this.#options.onStream(stream);
    if (fin) await stream.deliver(Buffer.alloc(0), true, 0);
  }
}

/** Ending the stream half-closes it; `reset` closes both directions at once. */
export class SpdyStream extends Duplex {
  readonly id: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly #connection: SpdyConnection;
  #onRead: () => void = () => undefined;
  #sawEnd = false;

  constructor(connection: SpdyConnection, id: number, headers: ReadonlyMap<string, string>) {
    super({ allowHalfOpen: true, readableHighWaterMark: streamBuffer, writableHighWaterMark: 64 << 10 });
    this.id = id;
    this.headers = headers;
    this.#connection = connection;
    this.on("error", () => undefined);
  }

  /** Passes on received data; returns a promise if the reader's buffer is full. */
  deliver(bytes: Buffer, fin: boolean, stallMs: number): Promise<void> | undefined {
    if (this.destroyed || this.#sawEnd) return undefined;
    const enough = bytes.length > 0 && !this.push(bytes);
    if (fin) {
      this.#sawEnd = true;
      this.push(null);
      return undefined;
    }
    return enough ? this.#waitForReader(stallMs) : undefined;
  }

  reset(): void {
    if (this.destroyed) return;
    this.destroy();
    this.#connection.answer(this.id, () => controlFrame(ControlType.rstStream, 0, numbers(this.id, status.cancel)));
  }

  /** The stream was reset or the connection was lost: readers see the end, writers an error. */
  connectionLost(): void {
    this.destroy(this.#sawEnd && this.writableFinished ? undefined : new Error("the client hung up"));
  }

  override _read(): void {
    this.#onRead();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    let at = 0;
    do {
      const piece = chunk.subarray(at, at + maxDataBytes);
      at += maxDataBytes;
      const frame = () => Buffer.concat([dataFrame(this.id, piece.length, false), piece]);
      this.#connection.send(this.id, frame, at < chunk.length ? () => undefined : done);
    } while (at < chunk.length);
  }

  override _final(done: Done): void {
    this.#connection.send(this.id, () => dataFrame(this.id, 0, true), done);
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#onRead();
    this.#connection.forget(this);
    done(error);
  }

  async #waitForReader(stallMs: number): Promise<void> {
    const heartbeat = setInterval(() => this.#connection.beat(), heartbeatMs);
    const limit = Number.isFinite(stallMs) ? setTimeout(() => this.reset(), stallMs) : undefined;
    await new Promise<void>((resolve) => {
      this.#onRead = resolve;
    });
    clearTimeout(limit);
    clearInterval(heartbeat);
    this.#onRead = () => undefined;
  }
}
