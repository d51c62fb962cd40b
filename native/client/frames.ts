// Frames of the monitor's protocol, version 1 (PROTOCOL.md, "Frames"): encoding, and decoding as bytes come.

import { type JsonObject, parseObject } from "../json/json.ts";

export const FrameType = {
  request: 0x01,
  stdin: 0x02,
  stdinClose: 0x03,
  resize: 0x04,
  reply: 0x81,
  error: 0x82,
  stdout: 0x83,
  stderr: 0x84,
  event: 0x85,
  started: 0x86,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

const protocolVersion = 1;
const headerLength = 8;
/** The longest payload of a frame that carries JSON, in bytes. */
export const maxJsonPayload = 1 << 20;
/** The longest payload of a frame that carries bytes of a stream. */
export const maxBytesPayload = 64 << 10;

/** What each side may send: the payload's shortest and longest length. */
export type FrameRules = ReadonlyMap<FrameType, { readonly least: number; readonly most: number }>;

export const framesToMonitor: FrameRules = new Map([
  [FrameType.request, { least: 2, most: maxJsonPayload }],
  [FrameType.stdin, { least: 0, most: maxBytesPayload }],
  [FrameType.stdinClose, { least: 0, most: 0 }],
  [FrameType.resize, { least: 4, most: 4 }],
]);

export const framesFromMonitor: FrameRules = new Map([
  [FrameType.reply, { least: 2, most: maxJsonPayload }],
  [FrameType.error, { least: 2, most: maxJsonPayload }],
  [FrameType.stdout, { least: 0, most: maxBytesPayload }],
  [FrameType.stderr, { least: 0, most: maxBytesPayload }],
  [FrameType.event, { least: 2, most: maxJsonPayload }],
  [FrameType.started, { least: 2, most: maxJsonPayload }],
]);

/** Bytes that are no frame, or a payload that is not what its type promises. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** The header of a frame; its payload of `length` bytes must follow. */
export function frameHeader(type: FrameType, length: number): Buffer {
  const header = Buffer.allocUnsafe(headerLength);
  header.writeUInt32LE(type | (protocolVersion << 8), 0);
  header.writeUInt32LE(length, 4);
  return header;
}

/** A whole frame with a JSON payload. Throws a FrameError above 1 MiB. */
export function encodeJson(type: FrameType, value: object): Buffer {
  const payload = Buffer.from(JSON.stringify(value));
  if (payload.length > maxJsonPayload) {
    throw new FrameError(`a message of ${payload.length} bytes is above the limit of ${maxJsonPayload}`);
  }
  return Buffer.concat([frameHeader(type, payload.length), payload]);
}

/** The window size of a terminal, 0 to 65535 each. */
export function encodeResize(columns: number, rows: number): Buffer {
  const frame = Buffer.concat([frameHeader(FrameType.resize, 4), Buffer.allocUnsafe(4)]);
  frame.writeUInt16LE(columns, headerLength);
  frame.writeUInt16LE(rows, headerLength + 2);
  return frame;
}

/** Reads a JSON payload. Throws a FrameError when it is not an object. */
export function decodeJson(payload: Buffer): JsonObject {
  const value = parseObject(payload.toString("utf8"));
  if (value === undefined) throw new FrameError("a JSON payload is not an object");
  return value;
}

/** Puts frames together from chunks of any size. Holds one frame's payload at most. */
export class FrameDecoder {
  readonly #rules: FrameRules;
  readonly #header = Buffer.alloc(headerLength);
  #headerFilled = 0;
  #type: FrameType = FrameType.reply;
  #payload: Buffer | undefined;
  #payloadFilled = 0;

  /** `rules` name what the other side may send. */
  constructor(rules: FrameRules) {
    this.#rules = rules;
  }

  /** True between frames: an end of the stream here cuts none short. */
  get idle(): boolean {
    return this.#headerFilled === 0;
  }

  /**
   * Takes the next bytes and hands out each frame that they complete, in order. A payload may be a view
   * of `chunk`. Throws a FrameError, as soon as a header is there, for what must not come; nothing is
   * allocated for it and the decoder is of no use afterwards.
   */
  push(chunk: Buffer, take: (type: FrameType, payload: Buffer) => void): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#headerFilled < headerLength) {
        const copied = chunk.copy(this.#header, this.#headerFilled, at, at + headerLength - this.#headerFilled);
        this.#headerFilled += copied;
        at += copied;
        if (this.#headerFilled < headerLength) return;
        const length = this.#readHeader();
        if (chunk.length - at >= length) {
          this.#headerFilled = 0;
          take(this.#type, chunk.subarray(at, at + length));
          at += length;
          continue;
        }
        this.#payload = Buffer.allocUnsafe(length);
        this.#payloadFilled = 0;
      }
      at += this.#fillPayload(chunk, at, take);
    }
  }

  #readHeader(): number {
    const [typeByte, version] = this.#header;
    const length = this.#header.readUInt32LE(4);
    if (version !== protocolVersion) throw new FrameError(`a frame is of protocol version ${version}, not 1`);
    if (this.#header.readUInt16LE(2) !== 0) throw new FrameError("a frame's reserved bytes are not zero");
    for (const [type, { least, most }] of this.#rules) {
      if (type !== typeByte) continue;
      if (length < least || length > most) throw new FrameError(`a frame of type ${type} has ${length} bytes`);
      this.#type = type;
      return length;
    }
    throw new FrameError(`a frame is of the unknown type ${typeByte}`);
  }

  #fillPayload(chunk: Buffer, at: number, take: (type: FrameType, payload: Buffer) => void): number {
    const payload = this.#payload;
    if (payload === undefined) throw new FrameError("a decoder goes on after a bad frame");
    const copied = chunk.copy(payload, this.#payloadFilled, at);
    this.#payloadFilled += copied;
    if (this.#payloadFilled === payload.length) {
      this.#payload = undefined;
      this.#headerFilled = 0;
      take(this.#type, payload);
    }
    return copied;
  }
}
