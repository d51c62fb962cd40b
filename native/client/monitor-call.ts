// One call to a monitor: the request, frames in between, one answer, a deadline.

import { longestTimerMs } from "../async/time-limit.ts";
import { beginWork, type Outcome } from "../diagnostics/work.ts";
import type { JsonObject } from "../json/json.ts";
import { isErrno, KeelsonError } from "./errors.ts";
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
import type { MonitorConnection, MonitorConnections } from "./monitor-connection.ts";
import { MonitorError, monitorErrors } from "./monitor-errors.ts";
import type { CallMessage } from "./monitor-messages.ts";

export type CallOutcome =
  | { readonly answered: true; readonly reply: JsonObject }
  | { readonly answered: false; readonly error: KeelsonError };

export interface CallListener {
  /** A frame before the answer; its payload is overwritten when this returns. A FrameError thrown here ends the call. */
  frame(type: FrameType, payload: Buffer): void;
  /** The call is over; comes once, after every frame. */
  over(outcome: CallOutcome): void;
}

/** How a call comes by its connection: `shared` by calls one after the other, where the monitor keeps it, or its own. */
export type ConnectionUse = "shared" | "own";

export class MonitorCall {
  readonly #connections: MonitorConnections;
  readonly #name: string;
  readonly #listener: CallListener;
  readonly #signal: AbortSignal | undefined;
  /** The connection is given back after the answer. */
  readonly #keep: boolean;
  #connection: MonitorConnection;
  /** The request, as long as it may have to go over another: the connection was there before, and brought nothing yet. */
  #unanswered: Buffer | undefined;
  readonly #decoder = new FrameDecoder(framesFromMonitor);
  readonly #workEnded: (outcome?: Outcome) => void;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  /** Sends the request. Throws a KeelsonError when the call cannot even begin. */
  constructor(
    connections: MonitorConnections,
    use: ConnectionUse,
    message: CallMessage,
    deadline: Deadline,
    listener: CallListener,
  ) {
    this.#connections = connections;
    this.#name = message.id === undefined ? message.op : `${message.op} (container ${message.id})`;
    this.#listener = listener;
    this.#signal = deadline.signal;
    this.#keep = use === "shared" && connections.keeps;
    const request = this.#encode(this.#keep ? { ...message, keep: true } : message);
    const resting = this.#keep ? connections.takeResting() : undefined;
    if (resting !== undefined) this.#unanswered = request;
    this.#connection = resting ?? this.#connect();
    this.#workEnded = beginWork("monitor call", () => `${this.#name} at ${connections.socketPath}`, message.op);
    this.#begin(request);
    this.expectWithin(deadline.timeoutMs);
    this.#signal?.addEventListener("abort", this.#cancelled);
    if (this.#signal?.aborted === true) queueMicrotask(this.#cancelled);
  }

  /** The answer must come within this many milliseconds from now; undefined: whenever it likes. */
  expectWithin(timeoutMs: number | undefined): void {
    clearTimeout(this.#timer);
    if (timeoutMs === undefined || this.#over) return;
    this.#timer = setTimeout(
      () => {
        this.#fail(monitorErrors.monitorSilent({ socket: this.#connections.socketPath, call: this.#name, timeoutMs }));
      },
      Math.min(timeoutMs, longestTimerMs),
    );
  }

  /** It has begun, as a session or a watch does: it goes on for as long as its caller likes, and keeps nobody waiting. */
  begun(): void {
    this.expectWithin(undefined);
    this.#workEnded();
  }

  /** Sends a frame; `sent` is called when the kernel has taken it or never will (then the call is over). */
  send(type: FrameType, payload: Buffer, sent?: () => void): void {
    this.#connection.together(() => {
      this.#connection.write(frameHeader(type, payload.length));
      this.#connection.write(payload, sent);
    });
  }

  /** Sends a frame that is encoded already; `sent` comes when the kernel has taken it, or the call is over. */
  sendEncoded(frame: Buffer, sent: () => void): void {
    this.#connection.write(frame, sent);
  }

  /** Stops reading, so that the monitor stops reading its process; at most one chunk (64 KiB) still comes. */
  pause(): void {
    if (!this.#over) this.#connection.pause();
  }

  resume(): void {
    if (!this.#over) this.#connection.resume();
  }

  /** Closes the connection, which cancels what the call can cancel. */
  cancel(): void {
    this.#cancelled();
  }

  readonly #cancelled = (): void => {
    this.#fail(monitorErrors.callCancelled({ call: this.#name, socket: this.#connections.socketPath }));
  };

  #connect(): MonitorConnection {
    try {
      return this.#connections.open();
    } catch (error) {
      throw this.#notConnected(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #begin(request: Buffer): void {
    this.#connection.use({ data: (chunk) => this.#take(chunk), gone: (error) => this.#gone(error) });
    this.#connection.write(request);
  }

  /**
   * A monitor hangs up a resting connection only when it ends. It took no request over it then, and a new connection
   * tells that nobody is there any more.
   */
  #gone(error: NodeJS.ErrnoException | undefined): void {
    if (this.#over) return;
    const request = this.#unanswered;
    if (request === undefined) {
      this.#fail(error === undefined ? this.#hungUp() : this.#connectionError(error));
      return;
    }
    this.#unanswered = undefined;
    try {
      this.#connection = this.#connect();
      this.#begin(request);
    } catch (again) {
      if (!(again instanceof KeelsonError)) throw again;
      this.#fail(again);
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
    this.#unanswered = undefined;
    try {
      this.#decoder.push(chunk, (type, payload) => this.#takeFrame(type, payload));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      const where = { socket: this.#connections.socketPath, call: this.#name };
      // When it follows the answer, it must not be taken for the next call's.
      this.#connection.destroy();
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
    const at = { socket: this.#connections.socketPath, reason: error.message };
    const nobody = isErrno(error, "ECONNREFUSED", "ENOENT", "ENOTDIR");
    return nobody ? monitorErrors.monitorUnreachable(at, error) : monitorErrors.monitorNotConnected(at, error);
  }

  #hungUp(cause?: Error): KeelsonError {
    return monitorErrors.monitorHungUp({ socket: this.#connections.socketPath, call: this.#name }, cause);
  }

  #fail(error: KeelsonError): void {
    this.#finish({ answered: false, error });
  }

  #finish(outcome: CallOutcome): void {
    if (this.#over) return;
    this.#over = true;
    this.#workEnded(outcome.answered ? "OK" : outcome.error.code);
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#cancelled);
    if (this.#keep && outcome.answered && this.#decoder.idle) this.#connections.giveBack(this.#connection);
    else this.#connection.destroy();
    this.#listener.over(outcome);
  }
}

/**
 * Makes a call that has no frames in between and reads its reply. `parse` may throw a FrameError.
 * Rejects as Monitor says.
 */
export function ask<Answer>(
  connections: MonitorConnections,
  message: CallMessage,
  deadline: Deadline,
  parse: (reply: JsonObject) => Answer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    new MonitorCall(connections, "shared", message, deadline, {
      frame(type) {
        throw new FrameError(`a frame of type ${type} comes where there should be an answer`);
      },
      over: (outcome) => settle({ resolve, reject }, outcome, connections, message, parse),
    });
  });
}

/** Gives a promise what `parse` makes of the reply, or why there is none. `parse` may throw a FrameError. */
export function settle<Answer>(
  { resolve, reject }: Pick<PromiseWithResolvers<Answer>, "resolve" | "reject">,
  outcome: CallOutcome,
  connections: MonitorConnections,
  message: CallMessage,
  parse: (reply: JsonObject) => Answer,
): void {
  if (!outcome.answered) {
    reject(outcome.error);
    return;
  }
  try {
    resolve(parse(outcome.reply));
  } catch (error) {
    reject(unintelligible(connections, message, error));
  }
}

/** What to reject with when reading a reply threw `error`. */
export function unintelligible({ socketPath }: MonitorConnections, message: CallMessage, error: unknown): unknown {
  if (!(error instanceof FrameError)) return error;
  const where = { socket: socketPath, call: message.op };
  return monitorErrors.monitorUnintelligible({ ...where, reason: error.message }, error);
}
