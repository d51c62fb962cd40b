// A raw client of the monitor's protocol for its tests, which can also do what the daemon's client never does.

import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { FrameType as Type } from "../../client/frames.ts";

export { Type };

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** The payload of an ERROR, as a JavaScript error. */
export class CallError extends Error {
  readonly kind: string;
  readonly errno: number;

  constructor(payload: Buffer) {
    const { kind, errno, message } = fields(payload);
    super(String(message));
    this.kind = String(kind);
    this.errno = Number(errno);
  }
}

export function fields(payload: Buffer): Record<string, unknown> {
  const parsed: unknown = JSON.parse(payload.toString());
  if (typeof parsed !== "object" || parsed === null) throw new Error("the payload is not an object");
  return { ...parsed };
}

export function encode(type: number, payload: Buffer | string, version = 1): Buffer {
  const bytes = Buffer.from(payload);
  const header = Buffer.from([type, version, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

/** One connection and the frames received on it. */
export class Call {
  readonly socket: Socket;
  readonly frames: Frame[] = [];
  private input: Buffer = Buffer.alloc(0);
  private arrived = Promise.withResolvers<void>();
  private closed = false;

  constructor(path: string) {
    this.socket = createConnection(path);
    this.socket.on("data", (chunk) => this.take(chunk));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
      this.arrived.resolve();
    });
  }

  send(type: number, payload: Buffer | string = ""): boolean {
    return this.socket.write(encode(type, payload));
  }

  /** Sends all of it, waiting while the monitor does not read. */
  async sendAll(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; at += 65536) {
      if (!this.send(Type.stdin, bytes.subarray(at, at + 65536))) await once(this.socket, "drain");
    }
    this.send(Type.stdinClose);
  }

  resize(columns: number, rows: number): void {
    const size = Buffer.alloc(4);
    size.writeUInt16LE(columns, 0);
    size.writeUInt16LE(rows, 2);
    this.send(Type.resize, size);
  }

  /** Waits until `wanted` is true for what has arrived; throws if the connection ends before. */
  async until(wanted: (call: Call) => boolean): Promise<void> {
    while (!wanted(this) && !this.closed) await this.arrived.promise;
    if (!wanted(this)) throw new Error(`the connection ended early; frames: ${this.frames.map((f) => f.type)}`);
  }

  async ended(): Promise<void> {
    while (!this.closed) await this.arrived.promise;
  }

  /** The frame of that type; throws the ERROR if one comes instead. */
  async frame(type: number): Promise<Record<string, unknown>> {
    const found = () => this.frames.find((frame) => frame.type === type || frame.type === Type.error);
    await this.until(() => found() !== undefined);
    const frame = found();
    if (frame === undefined) throw new Error("no such frame");
    if (frame.type === Type.error && type !== Type.error) throw new CallError(frame.payload);
    return fields(frame.payload);
  }

  bytes(type: number): Buffer {
    return Buffer.concat(this.frames.filter((frame) => frame.type === type).map((frame) => frame.payload));
  }

  output(): string {
    return this.bytes(Type.stdout).toString();
  }

  private take(chunk: Buffer): void {
    this.input = this.input.length === 0 ? chunk : Buffer.concat([this.input, chunk]);
    while (this.input.length >= 8) {
      const size = 8 + this.input.readUInt32LE(4);
      if (this.input.length < size) break;
      this.frames.push({ type: this.input.readUInt8(0), payload: this.input.subarray(8, size) });
      this.input = this.input.subarray(size);
    }
    this.arrived.resolve();
    this.arrived = Promise.withResolvers<void>();
  }
}
