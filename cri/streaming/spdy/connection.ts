// One SPDY/3.1 connection, server side: streams that the client opens, each a Duplex that half-closes.
//
// Back-pressure. The Go peers neither keep nor grant stream windows, so a stream whose reader is slow
// can only be held up by not reading the connection. That also stalls the connection's other streams,
// for `stallMs` at most: then the slow stream is reset and the others go on. What we send waits in each
// stream for the socket, so a peer that does not read fills no more than the streams' own buffers.

import { Duplex } from "node:stream";
import { ControlType, controlFrame, dataFrame, type Frame, FrameParser, numbers, SpdyError } from "./frames.ts";
import { HeaderDecoder, HeaderEncoder } from "./headers.ts";

const maxStreams = 1000;
const streamBuffer = 256 << 10;
/** DATA frames of ours are cut to this. */
const maxDataBytes = 32 << 10;
const status = { protocolError: 1, refusedStream: 3, cancel: 5, flowControlError: 7 } as const;

export interface SpdyOptions {
  /** How long one stream's slow reader may stall the connection, milliseconds; Infinity: as long as it likes. */
  readonly stallMs: number;
  readonly onStream: (stream: SpdyStream) => void;
}

export class SpdyConnection {
  /** Resolves when the connection is over, for whatever reason. */
  readonly closed: Promise<void>;
  readonly #socket: Duplex;
  readonly #options: SpdyOptions;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #decoder = new HeaderDecoder();
  readonly #encoder = new HeaderEncoder();
  #lastStreamId = 0;

  constructor(socket: Duplex, head: Buffer, options: SpdyOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("error", () => undefined);
    this.closed = this.#read(head).finally(() => this.#end());
  }

  /** Sends what waits, says good-bye and hangs up. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#socket.write(controlFrame(ControlType.goAway, 0, numbers(this.#lastStreamId, 0)));
    this.#socket.end();
    await this.closed.catch(() => undefined);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  send(bytes: Buffer, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done);
  }

  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id);
  }

  async #read(head: Buffer): Promise<void> {
    const parser = new FrameParser();
    try {
      for (const frame of parser.feed(head)) await this.#handle(frame);
      for await (const chunk of this.#socket) {
        for (const frame of parser.feed(chunk)) {
          const waiting = this.#handle(frame);
          if (waiting !== undefined) await waiting;
        }
      }
    } catch (error) {
      if (error instanceof SpdyError && !this.#socket.destroyed) {
        this.#socket.write(controlFrame(ControlType.goAway, 0, numbers(this.#lastStreamId, status.protocolError)));
      }
    }
  }

  #end(): void {
    this.#decoder.close();
    this.#encoder.close();
    for (const stream of this.#streams.values()) stream.connectionLost();
    this.#streams.clear();
    this.#socket.destroy();
  }

  /** A promise when the next frame has to wait. */
  #handle(frame: Frame): Promise<void> | undefined {
    switch (frame.kind) {
      case "data":
        return this.#streams.get(frame.streamId)?.deliver(frame.bytes, frame.fin, this.#options.stallMs);
      case "syn-stream":
        return this.#open(frame);
      case "headers":
        return this.#decoder
          .decode(frame.block)
          .then(() => (frame.fin ? this.#streams.get(frame.streamId)?.deliver(Buffer.alloc(0), true, 0) : undefined));
      case "rst-stream":
        this.#streams.get(frame.streamId)?.connectionLost();
        this.#streams.delete(frame.streamId);
        return undefined;
      case "ping":
        this.#socket.write(controlFrame(ControlType.ping, 0, numbers(frame.id)));
        return undefined;
      case "go-away":
      case "ignored":
        return undefined;
    }
  }

  async #open({ streamId, fin, block }: Extract<Frame, { kind: "syn-stream" }>): Promise<void> {
    const headers = await this.#decoder.decode(block);
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) throw new SpdyError(`a stream with the id ${streamId}`);
    this.#lastStreamId = streamId;
    if (this.#streams.size >= maxStreams) {
      this.#socket.write(controlFrame(ControlType.rstStream, 0, numbers(streamId, status.refusedStream)));
      return;
    }
    const reply = await this.#encoder.encode(new Map());
    this.#socket.write(controlFrame(ControlType.synReply, 0, Buffer.concat([numbers(streamId), reply])));
    const stream = new SpdyStream(this, streamId, headers);
    this.#streams.set(streamId, stream);
    this.#options.onStream(stream);
    if (fin) await stream.deliver(Buffer.alloc(0), true, 0);
  }
}

/** Ending it half-closes; `reset` ends both ways at once. */
export class SpdyStream extends Duplex {
  readonly id: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly #connection: SpdyConnection;
  #wanted: () => void = () => undefined;
  #sawEnd = false;

  constructor(connection: SpdyConnection, id: number, headers: ReadonlyMap<string, string>) {
    super({ allowHalfOpen: true, readableHighWaterMark: streamBuffer, writableHighWaterMark: 64 << 10 });
    this.id = id;
    this.headers = headers;
    this.#connection = connection;
    this.on("error", () => undefined);
  }

  /** Hands on what came; a promise when the reader has enough for now. */
  deliver(bytes: Buffer, fin: boolean, stallMs: number): Promise<void> | undefined {
    if (this.destroyed || this.#sawEnd) return undefined;
    const enough = bytes.length > 0 && !this.push(bytes);
    if (fin) {
      this.#sawEnd = true;
      this.push(null);
      return undefined;
    }
    return enough ? this.#readOn(stallMs) : undefined;
  }

  reset(): void {
    if (this.destroyed) return;
    this.#connection.send(controlFrame(ControlType.rstStream, 0, numbers(this.id, status.cancel)), () => undefined);
    this.destroy();
  }

  /** The peer or the connection is gone: readers see an end, writers an error. */
  connectionLost(): void {
    this.destroy(this.#sawEnd && this.writableFinished ? undefined : new Error("the client hung up"));
  }

  override _read(): void {
    this.#wanted();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const parts: Buffer[] = [];
    for (let at = 0; at < chunk.length; at += maxDataBytes) {
      const piece = chunk.subarray(at, at + maxDataBytes);
      parts.push(dataFrame(this.id, piece.length, false), piece);
    }
    this.#connection.send(Buffer.concat(parts), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.send(dataFrame(this.id, 0, true), done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#wanted();
    this.#connection.forget(this);
    done(error);
  }

  async #readOn(stallMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wanted = resolve;
      if (stallMs === Number.POSITIVE_INFINITY) return;
      timer = setTimeout(() => {
        this.reset();
        resolve();
      }, stallMs);
    });
    clearTimeout(timer);
    this.#wanted = () => undefined;
  }
}
