// SPDY/3.1 frames: an incremental parser that checks sizes before it buffers anything, and the writers.
// Source: SPDY Protocol Draft 3.1, section 2.2 and 2.6.

/** The peer violated the protocol, which ends the connection. */
export class SpdyError extends Error {
  override readonly name = "SpdyError";
}

export const ControlType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

export const flagFin = 0x01;

export type Frame =
  /** A piece of a DATA frame; `fin` with its last piece only. */
  | { readonly kind: "data"; readonly streamId: number; readonly bytes: Buffer; readonly fin: boolean }
  | { readonly kind: "syn-stream"; readonly streamId: number; readonly fin: boolean; readonly block: Buffer }
  | { readonly kind: "rst-stream"; readonly streamId: number }
  | { readonly kind: "ping"; readonly id: number }
  | { readonly kind: "go-away" }
  /** A header block that must be inflated to keep the compression context in sync. */
  | { readonly kind: "headers"; readonly streamId: number; readonly fin: boolean; readonly block: Buffer }
  | { readonly kind: "ignored" };

const headerSize = 8;
/** A larger control frame is an attack or a mistake. */
const maxControlBytes = 16 << 10;

/** Parses data incrementally; at most one control frame is buffered. */
export class FrameParser {
  #held: Buffer = Buffer.alloc(0);
  #data: { readonly streamId: number; readonly fin: boolean; left: number } | undefined;

  /** Yields the frames completed by `chunk`. Throws SpdyError. */
  *feed(chunk: Buffer): Generator<Frame> {
    let rest = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = Buffer.alloc(0);
    for (;;) {
      if (this.#data !== undefined) {
        if (rest.length === 0 && this.#data.left > 0) return;
        const bytes = rest.subarray(0, this.#data.left);
        rest = rest.subarray(bytes.length);
        yield this.#dataPiece(this.#data, bytes);
        continue;
      }
      if (rest.length < headerSize) break;
      const first = rest.readUInt32BE(0);
      const second = rest.readUInt32BE(4);
      const [flags, length] = [second >>> 24, second & 0xffffff];
      if (first < 0x80000000) {
        this.#data = { streamId: first, fin: (flags & flagFin) !== 0, left: length };
        rest = rest.subarray(headerSize);
        continue;
      }
      const [version, type] = [(first >>> 16) & 0x7fff, first & 0xffff];
      if (version !== 3) throw new SpdyError(`a frame of SPDY version ${version}`);
      if (length > maxControlBytes) throw new SpdyError(`a control frame of ${length} bytes`);
      if (rest.length < headerSize + length) break;
      yield control(type, flags, rest.subarray(headerSize, headerSize + length));
      rest = rest.subarray(headerSize + length);
    }
    this.#held = Buffer.from(rest);
  }

  #dataPiece(data: { readonly streamId: number; readonly fin: boolean; left: number }, bytes: Buffer): Frame {
    data.left -= bytes.length;
    const last = data.left === 0;
    if (last) this.#data = undefined;
    return { kind: "data", streamId: data.streamId, bytes, fin: last && data.fin };
  }
}

function control(type: number, flags: number, body: Buffer): Frame {
  const number = (at: number): number => {
    if (body.length < at + 4) throw new SpdyError(`a frame of type ${type} with ${body.length} bytes`);
    return body.readUInt32BE(at);
  };
  const fin = (flags & flagFin) !== 0;
  switch (type) {
    case ControlType.synStream:
      // Stream id, associated id, priority and slot, then the headers.
      number(6);
      return { kind: "syn-stream", streamId: number(0) & 0x7fffffff, fin, block: Buffer.from(body.subarray(10)) };
    case ControlType.synReply:
    case ControlType.headers:
      return { kind: "headers", streamId: number(0) & 0x7fffffff, fin, block: Buffer.from(body.subarray(4)) };
    case ControlType.rstStream:
      return { kind: "rst-stream", streamId: number(0) & 0x7fffffff };
    case ControlType.ping:
      return { kind: "ping", id: number(0) };
    case ControlType.goAway:
      return { kind: "go-away" };
    case ControlType.settings:
      // No setting matters here; not even their count is read.
      return { kind: "ignored" };
    default:
      return { kind: "ignored" };
  }
}

/** The header of a DATA frame; `length` bytes of data follow. */
export function dataFrame(streamId: number, length: number, fin: boolean): Buffer {
  const header = Buffer.alloc(headerSize);
  header.writeUInt32BE(streamId);
  header.writeUInt32BE((fin ? flagFin << 24 : 0) | length, 4);
  return header;
}

export function controlFrame(type: number, flags: number, body: Buffer): Buffer {
  const header = Buffer.alloc(headerSize);
  header.writeUInt32BE((0x80030000 | type) >>> 0);
  header.writeUInt32BE(((flags << 24) | body.length) >>> 0, 4);
  return Buffer.concat([header, body]);
}

/** 32-bit integers in network byte order. */
export function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value >>> 0, index * 4);
  });
  return bytes;
}
