// A fake monitor that speaks only the protocol's bytes, for faults that a real monitor does not have. It is silent,
// sends false data, floods or closes as a test specifies.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeJson, FrameDecoder, FrameType, frameHeader, framesToMonitor } from "../client/frames.ts";

/** Called with each frame of each connection. */
export type Behaviour = (socket: Socket, type: FrameType, payload: Buffer) => void;

export class TestPeer {
  /** The pod directory that contains its socket. */
  readonly directory = mkdtempSync(join(tmpdir(), "keelson-peer-"));
  readonly sockets: Socket[] = [];
  #server: Server | undefined;

  /** Listens with this behaviour, which replaces the previous one. */
  async behave(behaviour: Behaviour, address: string = join(this.directory, "monitor.sock")): Promise<void> {
    this.#server?.close();
    const server = createServer((socket) => {
      this.sockets.push(socket);
      const decoder = new FrameDecoder(framesToMonitor);
      socket.on("error", () => undefined);
      socket.on("data", (chunk: Buffer) => decoder.push(chunk, (type, payload) => behaviour(socket, type, payload)));
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(address, resolve));
  }

  remove(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server?.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function frame(type: FrameType, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(type, payload.length), payload]);
}

export const started = encodeJson(FrameType.started, { pid: 7 });
export const exited = encodeJson(FrameType.reply, { exit_code: 0, signal: 0 });

/** A ContainerState of PROTOCOL.md. */
export const exitedContainer = {
  id: "c",
  state: "exited",
  pid: 1,
  started_at: "1700000000000000001",
  finished_at: "18446744073709551615",
  exit_code: 137,
  signal: 9,
  oom_killed: true,
  tty: false,
};
