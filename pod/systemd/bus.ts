// A minimal D-Bus client for calls to systemd's manager: one connection to the system bus socket, opened at the first
// call and reopened after a loss. Marshalling and authentication are done by dbus-native.
// Sources: D-Bus Specification 0.43 (messages, EXTERNAL, org.freedesktop.DBus); dbus-daemon(1) (limits);
// org.freedesktop.systemd1(5), Manager.

import { EventEmitter } from "node:events";
import { connect, type Socket } from "node:net";
import type { Message } from "@homebridge/dbus-native/lib/message.js";
import { firstLine, orAborted, Slots } from "../../native/index.ts";

export const systemBusSocket = "/run/dbus/system_bus_socket";

/** Maximum message size; messages from systemd have a few hundred bytes. */
const longestMessage = 1 << 20;
const callType = 1;
const replyType = 2;
const errorType = 3;
const signalType = 4;
/** Pending calls per connection: dbus-daemon refuses the 129th. */
const callsAtOnce = 64;
/** Time limit for authentication. */
const greetingMs = 2_000;
/** NO_AUTO_START: the bus must not try to start systemd. */
const noAutoStart = 2;

const manager = {
  destination: "org.freedesktop.systemd1",
  path: "/org/freedesktop/systemd1",
  interface: "org.freedesktop.systemd1.Manager",
} as const;
const bus = {
  destination: "org.freedesktop.DBus",
  path: "/org/freedesktop/DBus",
  interface: "org.freedesktop.DBus",
} as const;
const jobSignals = `type='signal',sender='${manager.destination}',interface='${manager.interface}',member='JobRemoved'`;

/** An error that systemd returned for a call, with its D-Bus error name. */
export class BusRefusal extends Error {
  readonly errorName: string;

  constructor(errorName: string, message: string) {
    super(message === "" ? errorName : message);
    this.errorName = errorName;
  }
}

/** The bus or systemd is unavailable or disconnected; it is unknown whether the call took effect. */
export class BusLost extends Error {}

/** Errors from the bus itself when systemd has disconnected, as it does to re-execute. */
const absences: ReadonlySet<string> = new Set(
  ["NoReply", "ServiceUnknown", "NameHasNoOwner", "Disconnected", "Spawn.ChildExited"].map(
    (name) => `org.freedesktop.DBus.Error.${name}`,
  ),
);

export interface Job {
  /** "done", "failed", "canceled", "timeout" … Rejects with BusLost. */
  readonly result: Promise<string>;
}

export class SystemBus {
  readonly #socketPath: string;
  readonly #slots = new Slots(callsAtOnce);
  #connection: Promise<Connection> | undefined;

  constructor(socketPath = systemBusSocket) {
    this.#socketPath = socketPath;
  }

  /** Rejects with BusRefusal, BusLost, or the signal's reason. Even then the call may have taken effect. */
  async call(member: string, signature: string, body: readonly unknown[], signal: AbortSignal): Promise<void> {
    await this.#call({ ...manager, member, signature, body }, () => undefined, signal);
  }

  /** Makes a call that returns a job. */
  async startJob(member: string, signature: string, body: readonly unknown[], signal: AbortSignal): Promise<Job> {
    // The job's signal may directly follow the reply, so register for it while the reply is being processed.
    const job: Answer<Job> = ([path], connection) => ({ result: connection.job(path) });
    return await this.#call({ ...manager, member, signature, body }, job, signal);
  }

  close(): void {
    this.#connection?.then(
      (connection) => connection.lose("the connection was closed"),
      () => undefined,
    );
    this.#connection = undefined;
  }

  async #call<Result>(message: Message, answer: Answer<Result>, signal: AbortSignal): Promise<Result> {
    return await this.#slots.run(async () => await this.#ask(message, answer, signal), signal);
  }

  async #ask<Result>(message: Message, answer: Answer<Result>, signal: AbortSignal): Promise<Result> {
    this.#connection ??= this.#connect();
    const work = this.#connection.then(async (connection) => await connection.call(message, answer));
    // A connection that does not answer in time is not reused.
    return await orAborted(work, signal, () => {
      this.close();
      return signal.reason;
    });
  }

  async #connect(): Promise<Connection> {
    const forget = () => {
      this.#connection = undefined;
    };
    return await Connection.open(this.#socketPath, forget).catch((error: unknown) => {
      forget();
      throw error;
    });
  }
}

/** Called synchronously for the reply, before the next message is processed. */
type Answer<Result> = (body: readonly unknown[], connection: Connection) => Result;

interface Codec {
  marshall(message: Message): Buffer;
  unmarshalMessages(source: Intake, each: (message: Message) => void, options: object): void;
}

/** Buffers received bytes and notifies readers synchronously, so that `push` can pass on their exceptions. */
class Intake extends EventEmitter {
  readonly #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
  }

  /** Throws whatever its readers throw. */
  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.emit("readable");
  }

  read(size: number): Buffer | null {
    if (size > longestMessage) throw new Error(`the bus announced a message of ${size} bytes`);
    if (this.#bytes.length < size) return null;
    const read = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    return read;
  }

  write(data: string): void {
    this.#socket.write(data);
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #codec: Codec;
  readonly #onLoss: () => void;
  #lost: BusLost | undefined;
  #serial = 0;
  readonly #calls = new Map<number, { reply(body: readonly unknown[]): void; fail(error: Error): void }>();
  readonly #jobs = new Map<string, PromiseWithResolvers<string>>();

  private constructor(socket: Socket, codec: Codec, onLoss: () => void) {
    this.#socket = socket;
    this.#codec = codec;
    this.#onLoss = onLoss;
  }

  /** Opens a connection that is authenticated and subscribed to job signals. `onLoss`: it can no longer be used. */
  static async open(path: string, onLoss: () => void): Promise<Connection> {
    const [{ default: authenticate }, { default: codec }] = await Promise.all([
      import("@homebridge/dbus-native/lib/handshake.js"),
      import("@homebridge/dbus-native/lib/message.js"),
    ]);
    const socket = connect(path);
    // Need not keep the process alive: every waiting caller has a timer.
    socket.unref();
    const connection = new Connection(socket, codec, onLoss);
    const intake = new Intake(socket);
    const authenticated = Promise.withResolvers<void>();
    const lose = (reason: string) => {
      connection.lose(reason);
      authenticated.reject(new BusLost(`${path}: ${reason}`));
    };
    intake.on("error", (error) => lose(firstLine(error)));
    socket.setTimeout(greetingMs, () => lose("the bus did not answer during authentication"));
    socket.on("error", (error) => lose(error.message));
    socket.on("close", () => lose("the bus closed the connection"));
    socket.on("data", (chunk: Buffer) => {
      try {
        intake.push(chunk);
      } catch (error) {
        lose(firstLine(error));
      }
    });
    authenticate(intake, { authMethods: ["EXTERNAL"] }, (error) => {
      if (error !== null) return lose(`authentication failed: ${firstLine(error)}`);
      codec.unmarshalMessages(intake, (message) => connection.#take(message), {});
      authenticated.resolve();
    });
    await authenticated.promise;
    await connection.call({ ...bus, member: "Hello" }, () => undefined);
    await connection.call({ ...bus, member: "AddMatch", signature: "s", body: [jobSignals] }, () => undefined);
    socket.setTimeout(0);
    return connection;
  }

  async call<Result>(message: Message, answer: Answer<Result>): Promise<Result> {
    if (this.#lost !== undefined) throw this.#lost;
    this.#serial += 1;
    const serial = this.#serial;
    const bytes = this.#codec.marshall({ ...message, type: callType, flags: noAutoStart, serial });
    return await new Promise<Result>((resolve, reject) => {
      this.#calls.set(serial, { reply: (body) => resolve(answer(body, this)), fail: reject });
      this.#socket.write(bytes);
    });
  }

  job(path: unknown): Promise<string> {
    if (typeof path !== "string") return Promise.reject(new BusLost("systemd's reply contains no job"));
    const job = Promise.withResolvers<string>();
    // The caller may have given up, so nobody may handle the rejection.
    job.promise.catch(() => undefined);
    this.#jobs.set(path, job);
    return job.promise;
  }

  lose(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = new BusLost(reason);
    this.#onLoss();
    this.#socket.destroy();
    for (const { fail } of this.#calls.values()) fail(this.#lost);
    for (const { reject } of this.#jobs.values()) reject(this.#lost);
    this.#calls.clear();
    this.#jobs.clear();
  }

  #take({ type, replySerial = 0, errorName = "", member, body = [] }: Message): void {
    if (type === signalType && member === "JobRemoved") {
      const [, path, , result] = body;
      this.#jobs.get(String(path))?.resolve(String(result));
      this.#jobs.delete(String(path));
      return;
    }
    const call = this.#calls.get(replySerial);
    if (call === undefined) return;
    this.#calls.delete(replySerial);
    if (type === replyType) call.reply(body);
    if (type !== errorType) return;
    const message = typeof body[0] === "string" ? body[0] : "";
    call.fail(absences.has(errorName) ? new BusLost(message) : new BusRefusal(errorName, message));
  }
}
