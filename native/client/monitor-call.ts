// One call to a monitor: a connection, the request, frames in between, one answer, a deadline.

import { closeSync, constants, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { longestTimerMs } from "../async/time-limit.ts";
import { beginWork } from "../diagnostics/work.ts";
import type { JsonObject } from "../json/json.ts";
import type { KeelsonError } from "./errors.ts";
import { parseFailure } from "./failure.ts";
import {
  decodeJson,
  encodeJson,
  FrameDecoder,
  FrameError,
  FrameType,
  frameHeader,
  framesFromMonitor,
} from "./frames.ts";
import type { Deadline } from "./monitor.ts";
import { MonitorError, monitorErrors } from "./monitor-errors.ts";
import type { CallMessage } from "./monitor-messages.ts";

export type CallOutcome =
  | { readonly answered: true; readonly reply: JsonObject }
  | { readonly answered: false; readonly error: KeelsonError };

export interface CallListener {
  /** A frame before the answer. A FrameError thrown here ends the call. */
  frame(type: FrameType, payload: Buffer): void;
  /** The call is over; comes once, after every frame. */
  over(outcome: CallOutcome): void;
}

/** sun_path holds 108 bytes with its final NUL (unix(7)). */
const longestSocketPath = 107;

export class MonitorCall {
  readonly #socketPath: string;
  readonly #name: string;
  readonly #listener: CallListener;
  readonly #signal: AbortSignal | undefined;
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder(framesFromMonitor);
  readonly #workEnded: () => void;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  /** Connects and sends the request. Throws a KeelsonError when the call cannot even begin. */
  constructor(podDirectory: string, message: CallMessage, deadline: Deadline, listener: CallListener) {
    this.#socketPath = join(podDirectory, "monitor.sock");
    this.#name = message.id === undefined ? message.op : `${message.op} (container ${message.id})`;
    this.#listener = listener;
    this.#signal = deadline.signal;
    const request = this.#encode(message);
    this.#socket = this.#connect(podDirectory);
    this.#socket.on("data", (chunk: Buffer) => this.#take(chunk));
    this.#socket.on("error", (error) => this.#fail(this.#connectionError(error)));
    this.#socket.on("close", () => this.#fail(this.#hungUp()));
    this.#workEnded = beginWork("monitor call", () => `${this.#name} at ${this.#socketPath}`);
    this.#socket.write(request);
    this.expectWithin(deadline.timeoutMs);
    this.#signal?.addEventListener("abort", this.#cancelled);
    if (this.#signal?.aborted === true) queueMicrotask(this.#cancelled);
  }

  /** The answer must come within this many milliseconds from now; undefined: whenever it likes. */
  expectWithin(timeoutMs: number | undefined): void {
    clearTimeout(this.#timer);
    // A session or a watch that has begun keeps nobody waiting.
    if (timeoutMs === undefined) this.#workEnded();
    if (timeoutMs === undefined || this.#over) return;
    this.#timer = setTimeout(
      () => {
        this.#fail(monitorErrors.monitorSilent({ socket: this.#socketPath, call: this.#name, timeoutMs }));
      },
      Math.min(timeoutMs, longestTimerMs),
    );
  }

  /** Sends a frame; `sent` is called when the kernel has taken it or never will (then the call is over). */
  send(type: FrameType, payload: Buffer, sent?: () => void): void {
    this.#socket.cork();
    this.#socket.write(frameHeader(type, payload.length));
    this.#socket.write(payload, sent);
    this.#socket.uncork();
  }

  /** Sends a frame that is encoded already; `sent` comes when the kernel has taken it, or the call is over. */
  sendEncoded(frame: Buffer, sent: () => void): void {
    this.#socket.write(frame, sent);
  }

  /** Stops reading, so that the monitor stops reading its process; at most one chunk (64 KiB) still comes. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Closes the connection, which cancels what the call can cancel. */
  cancel(): void {
    this.#cancelled();
  }

  readonly #cancelled = (): void => {
    this.#fail(monitorErrors.callCancelled({ call: this.#name, socket: this.#socketPath }));
  };

  #connect(podDirectory: string): Socket {
    try {
      return connectSocket(podDirectory, this.#socketPath);
    } catch (error) {
      throw this.#notConnected(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #encode(message: CallMessage): Buffer {
    try {
      return encodeJson(FrameType.request, message);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      throw monitorErrors.callTooLarge({ call: this.#name, reason: error.message }, error);
    }
  }

  #take(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#decoder.push(chunk, (type, payload) => this.#takeFrame(type, payload));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      const where = { socket: this.#socketPath, call: this.#name };
      this.#fail(monitorErrors.monitorUnintelligible({ ...where, reason: error.message }, error));
    }
  }

  #takeFrame(type: FrameType, payload: Buffer): void {
    if (this.#over) throw new FrameError("a frame follows the answer");
    if (type === FrameType.reply) {
      this.#finish({ answered: true, reply: decodeJson(payload) });
    } else if (type === FrameType.error) {
      const failure = parseFailure(decodeJson(payload));
      if (failure === undefined) throw new FrameError("an ERROR lacks what it must say");
      this.#fail(new MonitorError(failure));
    } else {
      this.#listener.frame(type, payload);
    }
  }

  #connectionError(error: NodeJS.ErrnoException): KeelsonError {
    return error.syscall === "connect" ? this.#notConnected(error) : this.#hungUp(error);
  }

  #notConnected(error: NodeJS.ErrnoException): KeelsonError {
    const at = { socket: this.#socketPath, reason: error.message };
    const nobody = error.code === "ECONNREFUSED" || error.code === "ENOENT" || error.code === "ENOTDIR";
    return nobody ? monitorErrors.monitorUnreachable(at, error) : monitorErrors.monitorNotConnected(at, error);
  }

  #hungUp(cause?: Error): KeelsonError {
    return monitorErrors.monitorHungUp({ socket: this.#socketPath, call: this.#name }, cause);
  }

  #fail(error: KeelsonError): void {
    this.#finish({ answered: false, error });
  }

  #finish(outcome: CallOutcome): void {
    if (this.#over) return;
    this.#over = true;
    this.#workEnded();
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#cancelled);
    this.#socket.destroy();
    this.#listener.over(outcome);
  }
}

/**
 * Makes a call that has no frames in between and reads its reply. `parse` may throw a FrameError.
 * Rejects as Monitor says.
 */
export function ask<Answer>(
  podDirectory: string,
  message: CallMessage,
  deadline: Deadline,
  parse: (reply: JsonObject) => Answer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    new MonitorCall(podDirectory, message, deadline, {
      frame(type) {
        throw new FrameError(`a frame of type ${type} comes where there should be an answer`);
      },
      over(outcome) {
        if (!outcome.answered) return reject(outcome.error);
        try {
          resolve(parse(outcome.reply));
        } catch (error) {
          reject(unintelligible(podDirectory, message, error));
        }
      },
    });
  });
}

/** What to reject with when reading a reply threw `error`. */
export function unintelligible(podDirectory: string, message: CallMessage, error: unknown): unknown {
  if (!(error instanceof FrameError)) return error;
  const where = { socket: join(podDirectory, "monitor.sock"), call: message.op };
  return monitorErrors.monitorUnintelligible({ ...where, reason: error.message }, error);
}

/** A path too long for a socket address is reached through a descriptor of its directory. */
function connectSocket(podDirectory: string, socketPath: string): Socket {
  if (Buffer.byteLength(socketPath) <= longestSocketPath) return connect(socketPath);
  const directory = openSync(podDirectory, constants.O_DIRECTORY | constants.O_RDONLY);
  try {
    // connect(2) of a unix socket happens within this call; only its outcome is told later.
    return connect(`/proc/self/fd/${directory}/monitor.sock`);
  } finally {
    closeSync(directory);
  }
}
