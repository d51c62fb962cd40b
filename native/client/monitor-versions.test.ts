// Compatibility across versions: monitors started by an older daemon keep running under a newer one.
// fixtures/monitor-b2eedac.json is a recording of every frame of the conversation in testing/conversation.ts between
// the daemon and the monitor of commit b2eedac. Today's client must work with that monitor, and today's monitor with
// that client.

import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { connectMonitor, loadHost } from "../index.ts";
import { converse, type RecordedFrame, type Recording } from "../testing/conversation.ts";
import { TestPeer } from "../testing/peer.ts";
import { TestPods } from "../testing/pods.ts";

const recording: Recording = JSON.parse(
  readFileSync(new URL("fixtures/monitor-b2eedac.json", import.meta.url), "utf8"),
);
const firstAnswer = 0x80;

interface Frame {
  readonly header: Buffer;
  readonly payload: string;
}

/** Reads the frames of a connection. Implemented from PROTOCOL.md, without using the client's own code. */
class Frames {
  readonly #socket: Socket;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on("close", () => this.#wake());
    socket.on("error", () => undefined);
  }

  async next(): Promise<Frame> {
    for (;;) {
      const end = this.#bytes.length < 8 ? Infinity : 8 + this.#bytes.readUInt32LE(4);
      if (this.#bytes.length >= end) {
        const [header, payload] = [this.#bytes.subarray(0, 8), this.#bytes.subarray(8, end).toString()];
        this.#bytes = this.#bytes.subarray(end);
        return { header, payload };
      }
      if (this.#socket.closed) throw new Error("hung up in the middle of the conversation");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function bytesOf({ header, payload }: Pick<RecordedFrame, "header" | "payload">): Buffer {
  const content = Buffer.from(payload);
  const head = Buffer.from(header, "hex");
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

/** JSON as an object, stream data unchanged. */
function meaning(payload: string): unknown {
  return payload.startsWith("{") ? JSON.parse(payload) : payload;
}

let peer: TestPeer;
let server: Server | undefined;
beforeEach(() => {
  peer = new TestPeer();
});
afterEach(() => {
  server?.close();
  peer.remove();
});

it("the client works with the monitor of b2eedac, and sends it nothing unknown to it", async () => {
  const faults: unknown[] = [];
  let connections = 0;
  server = createServer((socket) => {
    const mine = recording.frames.filter(({ connection }) => connection === connections);
    connections += 1;
    const frames = new Frames(socket);
    const replay = async () => {
      for (const recorded of mine) {
        if (recorded.to === "daemon") {
          socket.write(bytesOf(recorded));
          continue;
        }
        const { header, payload } = await frames.next();
        expect(header[0]).toBe(Buffer.from(recorded.header, "hex")[0]);
        expect(meaning(payload)).toEqual(meaning(recorded.payload));
      }
    };
    replay().catch((error: unknown) => {
      faults.push(error);
      socket.destroy();
    });
  });
  server.listen(join(peer.directory, "monitor.sock"));
  await once(server, "listening");
  const results = await converse(connectMonitor(peer.directory), recording.sleeper, recording.missing);
  expect(faults).toEqual([]);
  expect(results).toEqual(recording.results);
});

let pods: TestPods;
beforeAll(async () => {
  pods = await TestPods.prepare(loadHost());
});
afterAll(async () => await pods.remove());

/** Identities and times differ, and the wording of errors may improve. */
const mayDiffer: ReadonlySet<string> = new Set([
  "pid",
  "started_at",
  "finished_at",
  "version",
  "step",
  "object",
  "message",
]);

function comparable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, member]) => [
    name,
    mayDiffer.has(name) ? `some ${typeof member}` : comparable(member),
  ]);
  return Object.fromEntries(entries);
}

it("the monitor answers the daemon of b2eedac as the monitor of b2eedac did", async () => {
  await pods.withPod(async (pod) => {
    const sleeper = pods.makeContainer(pod, ["sleep", "1000"]);
    const missing = pods.makeContainer(pod, ["/bin/no-such-command"]);
    const here = (text: string) =>
      text
        .replaceAll(recording.sleeper.id, sleeper.id)
        .replaceAll(recording.missing.id, missing.id)
        .replaceAll(recording.podDirectory, pod)
        .replaceAll(recording.podDirectory.slice(-64), pod.slice(-64));
    const connections = new Map<number, { readonly socket: Socket; readonly frames: Frames }>();
    // Through a descriptor: the full path may exceed the 107 bytes of a socket address, unix(7).
    const directory = openSync(pod, "r");
    const open = () => {
      const socket = connect(`/proc/self/fd/${directory}/monitor.sock`);
      return { socket, frames: new Frames(socket) };
    };
    try {
      for (const { connection, to, header, payload } of recording.frames) {
        const { socket, frames } = connections.get(connection) ?? open();
        connections.set(connection, { socket, frames });
        if (to === "monitor") {
          socket.write(bytesOf({ header, payload: here(payload) }));
          continue;
        }
        const answer = await frames.next();
        expect(answer.header[0]).toBe(Buffer.from(header, "hex")[0]);
        expect(answer.header[0]).toBeGreaterThan(firstAnswer);
        expect(comparable(meaning(answer.payload))).toEqual(comparable(meaning(here(payload))));
      }
    } finally {
      for (const { socket } of connections.values()) socket.destroy();
      closeSync(directory);
    }
  });
});
