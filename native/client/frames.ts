// Encodes and incrementally decodes the frames of the monitor's protocol, version 1 (PROTOCOL.md, "Frames").

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
/** Maximum payload of a frame that carries JSON, in bytes. */
export const maxJsonPayload = 1 << 20;
/** Maximum payload of a frame that carries stream data, in bytes. */
export const maxBytesPayload = 64 << 10;

/** The frame types that one side may send, with the minimum and maximum length of their payloads. */
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

/** The bytes are not a valid frame, or a payload does not match its frame's type. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** The header of a frame, which must be followed by its payload of `length` bytes. */
export function frameHeader(type: FrameType, length: number): Buffer {
  const header = Buffer.allocUnsafe(headerLength);
  header.writeUInt32LE(type | (protocolVersion << 8), 0);
  header.writeUInt32LE(length, 4);
  return header;
}

/** A complete frame with a JSON payload. Throws a FrameError above 1 MiB. */
export function encodeJson(type: FrameType, value: object): Buffer {
  const payload = Buffer.from(JSON.stringify(value));
  if (payload.length > maxJsonPayload) {
    throw new FrameError(`a message of ${payload.length} bytes exceeds the limit of ${maxJsonPayload}`);
  }
  return Buffer.concat([frameHeader(type, payload.length), payload]);
}

/** A complete frame with a terminal's window size, 0 to 65535 each. */
export function encodeResize(columns: number, rows: number): Buffer {
  const frame = Buffer.concat([frameHeader(FrameType.resize, 4), Buffer.allocUnsafe(4)]);
  frame.writeUInt16LE(columns, headerLength);
  frame.writeUInt16LE(rows, headerLength + 2);
  return frame;
}

/** Parses a JSON payload. Throws a FrameError if it is not an object. */
export function decodeJson(payload: Buffer): JsonObject {
  const value = parseObject(payload.toString("utf8"));
  if (value === undefined) throw new FrameError("a JSON payload is not an object");
  return value;
}

/** Assembles frames from chunks of any size. Buffers at most one frame's payload. */
export class FrameDecoder {
  readonly #rules: FrameRules;
  readonly #header = Buffer.alloc(headerLength);
  #headerFilled = 0;
  #type: FrameType = FrameType.reply;
  #payload: Buffer | undefined;
  #payloadFilled = 0;

  /** `rules` define what the other side may send. */
  constructor(rules: FrameRules) {
    this.#rules = rules;
  }

  /** True between frames: if the stream ends here, no frame is truncated. */
  get idle(): boolean {
    return this.#headerFilled === 0;
  }

  /**
   * Processes the next bytes and passes on each frame that they complete, in order. A payload may be a view of `chunk`.
   * Throws a FrameError for a forbidden frame as soon as its header is complete; nothing is allocated for it, and the
   * decoder must not be used afterwards.
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
    if (version !== protocolVersion) throw new FrameError(`a frame has protocol version ${version}, not 1`);
    if (this.#header.readUInt16LE(2) !== 0) throw new FrameError("a frame's reserved bytes are not zero");
    for (const [type, { least, most }] of this.#rules) {
      if (type !== typeByte) continue;
      if (length < least || length > most) throw new FrameError(`a frame of type ${type} has ${length} bytes`);
      this.#type = type;
      return length;
    }
    throw new FrameError(`a frame has the unknown type ${typeByte}`);
  }

  #fillPayload(chunk: Buffer, at: number, take: (type: FrameType, payload: Buffer) => void): number {
    const payload = this.#payload;
    if (payload === undefined) throw new FrameError("a decoder is used after an invalid frame");
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
