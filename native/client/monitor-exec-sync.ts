// Runs a command to completion and collects its output: used by the kubelet's probes, the most frequent call of all.
//
// It reads frames directly, without the streams of a Session, and only as far as there is room for the output.

import { FrameError, FrameType } from "./frames.ts";
import type { Deadline, ExecSyncRequest, ExecSyncResult } from "./monitor.ts";
import { MonitorCall, settle } from "./monitor-call.ts";
import type { MonitorConnections } from "./monitor-connection.ts";
import { execMessage, parseOutcome } from "./monitor-messages.ts";

/**
 * Bytes of stdout and stderr together. A CRI client accepts messages of up to 16 MiB; the rest is left for the
 * other fields and the transport's framing.
 */
const outputLimit = (16 << 20) - (64 << 10);

/** How much later than the monitor's own time limit the daemon stops waiting for it. */
const graceMs = 5_000;

export function execSync(
  connections: MonitorConnections,
  request: ExecSyncRequest,
  deadline: Deadline,
): Promise<ExecSyncResult> {
  return new Promise((resolve, reject) => {
    const message = {
      ...execMessage({ ...request, tty: false, stdin: false }),
      // Most commands exit before a report of their start would be useful.
      ...(connections.keeps ? { brief: true } : {}),
    };
    const stdout = new Head(outputLimit);
    const stderr = new Head(outputLimit);
    let noRoom: unknown;
    const makeRoom = () => {
      const room = request.room?.hold(stdout.length + stderr.length);
      if (room === undefined) return;
      call.pause();
      room.then(
        () => call.resume(),
        (reason: unknown) => {
          noRoom = reason;
          call.cancel();
        },
      );
    };
    const call: MonitorCall = new MonitorCall(connections, "shared", message, deadline, {
      frame(type, payload) {
        if (type === FrameType.stdout || type === FrameType.stderr) {
          (type === FrameType.stdout ? stdout : stderr).take(payload);
          makeRoom();
        } else if (type === FrameType.started)
          call.expectWithin(request.timeoutMs === 0 ? undefined : request.timeoutMs + graceMs);
        else throw new FrameError(`unexpected frame of type ${type}`);
      },
      over(outcome) {
        if (!outcome.answered && noRoom !== undefined) return reject(noRoom);
        settle({ resolve, reject }, outcome, connections, message, (reply) => {
          const { exitCode } = parseOutcome(reply);
          return { ...shareLimit(stdout, stderr), exitCode };
        });
      },
    });
  });
}

/** The first bytes of a stream; the rest is dropped. */
class Head {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#length;
  }

  take(payload: Buffer): void {
    const kept = payload.subarray(0, this.#limit - this.#length);
    if (kept.length === 0) return;
    this.#chunks.push(Buffer.from(kept));
    this.#length += kept.length;
  }

  /** At most `length` of the bytes. */
  bytes(length: number): Buffer {
    return Buffer.concat(this.#chunks, Math.min(length, this.#length));
  }
}

/** Truncates both outputs to fit the limit; neither is cut below half of it because of the other. */
function shareLimit(stdout: Head, stderr: Head): { stdout: Buffer; stderr: Buffer } {
  const half = outputLimit / 2;
  return {
    stdout: stdout.bytes(outputLimit - Math.min(stderr.length, half)),
    stderr: stderr.bytes(outputLimit - Math.min(stdout.length, half)),
  };
}
