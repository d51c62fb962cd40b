// The command channel into a guest: a virtio serial port, which QEMU exposes as a Unix socket; guest/agent.sh answers.

import { connect, type Socket } from "node:net";

export interface Outcome {
  /** 124 on timeout. */
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export interface Channel {
  /** Runs a shell script in the guest for at most `seconds`. Rejects if the guest does not answer. */
  attempt(script: string, seconds: number): Promise<Outcome>;
  close(): void;
}

/** How long the guest may take to kill a command and answer, after the command's own timeout. */
const graceMs = 30_000;

/** Connects, and waits until the guest reports that it is ready. */
export async function openChannel(path: string, deadlineMs: number): Promise<Channel> {
  const socket = connect(path);
  const waiting = new Map<string, PromiseWithResolvers<Outcome>>();
  let received: Buffer = Buffer.alloc(0);
  let asked = 0;
  const wait = async (id: string, ms: number, what: string): Promise<Outcome> => {
    const answer = Promise.withResolvers<Outcome>();
    waiting.set(id, answer);
    const timer = setTimeout(() => answer.reject(new Error(`the guest did not answer within ${ms} ms: ${what}`)), ms);
    try {
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      waiting.delete(id);
    }
  };
  socket.on("data", (bytes) => {
    received = Buffer.concat([received, bytes]);
    for (let answer = takeAnswer(received); answer !== undefined; answer = takeAnswer(received)) {
      received = answer.rest;
      waiting.get(answer.id)?.resolve(answer.outcome);
    }
  });
  socket.on("error", () => "close follows");
  socket.on("close", () => {
    for (const { reject } of waiting.values()) reject(new Error("the guest is off"));
  });
  try {
    await wait("ready", deadlineMs, "ready");
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return {
    attempt: async (script, seconds) => {
      asked += 1;
      const id = `c${asked}`;
      if (socket.closed || !send(socket, `${id} ${seconds} ${Buffer.from(script).toString("base64")}\n`))
        throw new Error("the guest is off");
      return await wait(id, seconds * 1000 + graceMs, script);
    },
    close: () => socket.destroy(),
  };
}

function send(socket: Socket, line: string): boolean {
  if (!socket.writable) return false;
  socket.write(line);
  return true;
}

function takeAnswer(bytes: Buffer): { id: string; outcome: Outcome; rest: Buffer } | undefined {
  const end = bytes.indexOf("\n");
  if (end === -1) return undefined;
  const [id = "", ...numbers] = bytes.subarray(0, end).toString().split(" ");
  const [code = 0, out = 0, err = 0] = numbers.map(Number);
  const body = bytes.subarray(end + 1);
  if (body.length < out + err) return undefined;
  const outcome = { code, stdout: body.subarray(0, out), stderr: body.subarray(out, out + err) };
  return { id, outcome, rest: body.subarray(out + err) };
}
