// One call to a monitor: the request, intermediate frames, one answer, a deadline.

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
  /** A frame before the answer; its payload is only valid until this returns. Throwing a FrameError ends the call. */
  frame(type: FrameType, payload: Buffer): void;
  /** The call is over; called once, after all frames. */
  over(outcome: CallOutcome): void;
}

/** Whether a call uses its `own` connection, or one `shared` by successive calls, if the monitor supports that. */
export type ConnectionUse = "shared" | "own";

export class MonitorCall {
  readonly #connections: MonitorConnections;
  readonly #name: string;
  readonly #listener: CallListener;
  readonly #signal: AbortSignal | undefined;
  /** The connection is released for reuse after the answer. */
  readonly #keep: boolean;
  #connection: MonitorConnection;
  /** The request, while it may have to be resent: the connection is a reused one on which nothing has arrived yet. */
  #unanswered: Buffer | undefined;
  readonly #decoder = new FrameDecoder(framesFromMonitor);
  readonly #workEnded: (outcome?: Outcome) => void;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  /** Sends the request. Throws a KeelsonError if the call cannot even start. */
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
    const idle = this.#keep ? connections.takeIdle() : undefined;
    if (idle !== undefined) this.#unanswered = request;
    this.#connection = idle ?? this.#connect();
    this.#workEnded = beginWork("monitor call", () => `${this.#name} at ${connections.socketPath}`, message.op);
    this.#begin(request);
    this.expectWithin(deadline.timeoutMs);
    this.#signal?.addEventListener("abort", this.#cancelled);
    if (this.#signal?.aborted === true) queueMicrotask(this.#cancelled);
  }

  /** The answer must arrive within this many milliseconds from now; no limit if undefined. */
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

  /** A session or watch has started: it has no time limit from now on, and no longer counts as work in progress. */
  begun(): void {
    this.expectWithin(undefined);
    this.#workEnded();
  }

  /** Sends a frame; `sent` is called when the kernel has accepted it, or never will because the call is over. */
  send(type: FrameType, payload: Buffer, sent?: () => void): void {
    this.#connection.together(() => {
      this.#connection.write(frameHeader(type, payload.length));
      this.#connection.write(payload, sent);
    });
  }

  /** Sends an encoded frame; `sent` is called when the kernel has accepted it, or the call is over. */
  sendEncoded(frame: Buffer, sent: () => void): void {
    this.#connection.write(frame, sent);
  }

  /** Stops reading, so that the monitor stops reading from its process; at most one more chunk (64 KiB) arrives. */
  pause(): void {
    if (!this.#over) this.#connection.pause();
  }

  resume(): void {
    if (!this.#over) this.#connection.resume();
  }

  /** Closes the connection, which cancels the call as far as it can be cancelled. */
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
   * A monitor closes an idle connection only when it exits. It has not accepted the request then, and a new connection
   * shows whether the monitor is still running.
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
      // If it follows the answer, it must not be mistaken for the next call's.
      this.#connection.destroy();
      this.#fail(monitorErrors.monitorUnintelligible({ ...where, reason: error.message }, error));
    }
  }

  #takeFrame(type: FrameType, payload: Buffer): void {
    if (this.#over) throw new FrameError("unexpected frame after the answer");
    if (type === FrameType.reply) {
      this.#finish({ answered: true, reply: decodeJson(payload) });
    } else if (type === FrameType.error) {
      const failure = parseFailure(decodeJson(payload));
      if (failure === undefined) throw new FrameError("an ERROR frame lacks a required member");
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
    const isDead = isErrno(error, "ECONNREFUSED", "ENOENT", "ENOTDIR");
    return isDead ? monitorErrors.monitorUnreachable(at, error) : monitorErrors.monitorNotConnected(at, error);
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
    if (this.#keep && outcome.answered && this.#decoder.idle) this.#connections.release(this.#connection);
    else this.#connection.destroy();
    this.#listener.over(outcome);
  }
}

/**
 * Makes a call without intermediate frames. `parse` reads the reply and may throw a FrameError. Rejects as in Monitor.
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
        throw new FrameError(`unexpected frame of type ${type} instead of an answer`);
      },
      over: (outcome) => settle({ resolve, reject }, outcome, connections, message, parse),
    });
  });
}

/** Settles a promise with the parsed reply, or the reason why there is none. `parse` may throw a FrameError. */
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

/** The error to reject with if parsing a reply threw `error`. */
export function unintelligible({ socketPath }: MonitorConnections, message: CallMessage, error: unknown): unknown {
  if (!(error instanceof FrameError)) return error;
  const where = { socket: socketPath, call: message.op };
  return monitorErrors.monitorUnintelligible({ ...where, reason: error.message }, error);
}
