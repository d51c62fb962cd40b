// Calls that carry streams: exec, attach, port-forward, with back-pressure in both directions.

import { Duplex, Readable, Writable } from "node:stream";
import { encodeResize, FrameError, FrameType, maxBytesPayload } from "./frames.ts";
import type { Deadline, ExecOutcome, Session } from "./monitor.ts";
import { MonitorCall, settle, unintelligible } from "./monitor-call.ts";
import type { MonitorConnections } from "./monitor-connection.ts";
import { type CallMessage, parseOutcome } from "./monitor-messages.ts";

/** Bytes buffered for a slow reader before the connection is paused; one more chunk (64 KiB) may arrive. */
const highWaterMark = 64 << 10;

/** Sends exec or attach and resolves once the process runs. `withStdin`: whether the request asks for stdin. */
export function openSession(
  connections: MonitorConnections,
  message: CallMessage,
  withStdin: boolean,
  deadline: Deadline,
): Promise<Session> {
  return new Promise((resolve, reject) => {
    const done = Promise.withResolvers<ExecOutcome>();
    // The caller may no longer handle a failure of the session.
    done.promise.catch(() => undefined);
    let started = false;
    const call: MonitorCall = new MonitorCall(connections, "own", message, deadline, {
      frame(type, payload) {
        if (type === FrameType.stdout && started) return stdout.take(payload);
        if (type === FrameType.stderr && started) return stderr.take(payload);
        if (type !== FrameType.started || started) throw new FrameError(`unexpected frame of type ${type}`);
        started = true;
        call.begun();
        resolve({
          stdin,
          stdout: stdout.stream,
          stderr: stderr.stream,
          resize: (columns, rows) => sizes.send(encodeResize(columns, rows)),
          done: done.promise,
          cancel: () => call.cancel(),
        });
      },
      over(outcome) {
        stdin.destroy();
        stdout.end();
        stderr.end();
        settle(done, outcome, connections, message, parseOutcome);
        if (!started) reject(outcome.answered ? notStarted(connections, message) : outcome.error);
      },
    });
    const flow = new Flow(call);
    const stdout = new Output(flow);
    const stderr = new Output(flow);
    const stdin = new Writable({ highWaterMark, ...inputOf(call) });
    const sizes = new Newest(call);
    if (!withStdin) stdin.destroy();
  });
}

/** Sends port_forward and resolves once the pod's port has accepted the connection. */
export function openPort(connections: MonitorConnections, message: CallMessage, deadline: Deadline): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    let started = false;
    const call: MonitorCall = new MonitorCall(connections, "own", message, deadline, {
      frame(type, payload) {
        if (type === FrameType.stdout && started) {
          if (payload.length > 0 && !duplex.push(Buffer.from(payload))) call.pause();
          return;
        }
        if (type !== FrameType.started || started) throw new FrameError(`unexpected frame of type ${type}`);
        started = true;
        call.begun();
        resolve(duplex);
      },
      over(outcome) {
        if (!started) reject(outcome.answered ? notStarted(connections, message) : outcome.error);
        if (outcome.answered) duplex.push(null);
        else duplex.destroy(started ? outcome.error : undefined);
      },
    });
    const duplex = new Duplex({
      highWaterMark,
      read: () => call.resume(),
      ...inputOf(call),
      destroy(error, destroyed) {
        call.cancel();
        destroyed(error);
      },
    });
  });
}

function notStarted(connections: MonitorConnections, message: CallMessage): unknown {
  return unintelligible(connections, message, new FrameError("the answer arrived before the start"));
}

/** Pauses the connection while any of the streams that share it is full. */
class Flow {
  readonly #call: MonitorCall;
  readonly #full = new Set<Output>();

  constructor(call: MonitorCall) {
    this.#call = call;
  }

  stop(output: Output): void {
    this.#full.add(output);
    this.#call.pause();
  }

  go(output: Output): void {
    if (this.#full.delete(output) && this.#full.size === 0) this.#call.resume();
  }
}

/** One output stream of a process. */
class Output {
  readonly stream: Readable;
  readonly #flow: Flow;

  constructor(flow: Flow) {
    this.#flow = flow;
    this.stream = new Readable({
      highWaterMark,
      read: () => flow.go(this),
      destroy: (error, destroyed) => {
        flow.go(this);
        destroyed(error);
      },
    });
  }

  take(payload: Buffer): void {
    if (this.stream.destroyed || payload.length === 0) return;
    if (!this.stream.push(Buffer.from(payload))) this.#flow.stop(this);
  }

  end(): void {
    if (!this.stream.destroyed) this.stream.push(null);
  }
}

/** Sends frames of which only the newest matters: at most one is in flight and one pending. */
class Newest {
  readonly #call: MonitorCall;
  #sending = false;
  #next: Buffer | undefined;

  constructor(call: MonitorCall) {
    this.#call = call;
  }

  send(frame: Buffer): void {
    if (this.#sending) {
      this.#next = frame;
      return;
    }
    this.#sending = true;
    this.#call.sendEncoded(frame, () => {
      this.#sending = false;
      const next = this.#next;
      this.#next = undefined;
      if (next !== undefined) this.send(next);
    });
  }
}

/** The writable side of a stream: sends writes as STDIN frames, and STDIN_CLOSE at the end. */
function inputOf(call: MonitorCall) {
  return {
    // Ignores the connection's error: the call reports that.
    write: (chunk: Buffer, _encoding: BufferEncoding, sent: () => void) => sendBytes(call, chunk, () => sent()),
    final: (sent: () => void) => {
      call.send(FrameType.stdinClose, Buffer.alloc(0));
      sent();
    },
  };
}

/** Sends bytes as STDIN frames; `sent` is called when the kernel has accepted the last, or the call is over. */
function sendBytes(call: MonitorCall, bytes: Buffer, sent: () => void): void {
  let at = 0;
  for (; bytes.length - at > maxBytesPayload; at += maxBytesPayload) {
    call.send(FrameType.stdin, bytes.subarray(at, at + maxBytesPayload));
  }
  call.send(FrameType.stdin, bytes.subarray(at), sent);
}
