// Exec and attach: connects a session in the pod to a client's streams, over any transport.
// Source: k8s.io/apimachinery pkg/util/remotecommand (the protocols v1 to v5).

import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { KeelsonError, orAborted, type Session } from "../../native/index.ts";

/** The streams requested by an exec or attach. */
export interface Streams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** A client's end. `stdin`, `stdout` and `stderr` are present as requested; the transport handles the framing. */
export interface ClientStreams {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  /** From v4 on the outcome is a status object; in older versions it is plain text, and sent only for failures. */
  readonly statusAsJson: boolean;
  /** Calls back on each resize of the client's terminal. */
  onResize(resize: (columns: number, rows: number) => void): void;
  /** Sends the outcome and ends the error stream; resolves when it is written, or the client has disconnected. */
  sendOutcome(text: string): Promise<void>;
  /** Resolves when the client has disconnected. */
  readonly gone: Promise<void>;
}

/**
 * Runs until the process exits or the client disconnects, then reports the outcome to the client: output first, then
 * the status. If the client disconnects, the session ends (an exec is killed, an attach detaches). `ending` also ends
 * it, and its reason is sent to the client: without a status, a client over SPDY takes the end for success.
 */
export async function serveSession(
  start: () => Promise<Session>,
  client: ClientStreams,
  ending: AbortSignal,
): Promise<void> {
  let session: Session;
  try {
    session = await start();
  } catch (error) {
    client.stdin?.resume();
    await client.sendOutcome(failure(client, reported(ending.aborted ? ending.reason : error)));
    return;
  }
  const leave = () => session.cancel();
  client.gone.then(leave, leave);
  ending.addEventListener("abort", leave);
  if (ending.aborted) leave();
  joinInput(session, client);
  const outputs = [deliver(session.stdout, client.stdout), deliver(session.stderr, client.stderr)];
  const outcome = await session.done.then(
    ({ exitCode }) => (exitCode === 0 ? success(client) : exited(client, exitCode)),
    (error: unknown) => failure(client, reported(error)),
  );
  // There is no time limit for reading the rest of the output: the server ends idle sessions.
  await orAborted(Promise.race([Promise.all(outputs), client.gone]), ending).catch(() => undefined);
  await client.sendOutcome(ending.aborted ? failure(client, reported(ending.reason)) : outcome);
}

function joinInput(session: Session, client: ClientStreams): void {
  client.onResize((columns, rows) => session.resize(columns, rows));
  if (client.stdin === undefined) session.stdin.end();
  else {
    session.stdin.on("error", () => undefined);
    // Ends with the client's half-close. Once the process has exited, further input is read and discarded.
    client.stdin.pipe(session.stdin);
    session.stdin.once("close", () => {
      client.stdin?.unpipe(session.stdin);
      client.stdin?.resume();
    });
  }
}

async function deliver(output: Readable, to: Writable | undefined): Promise<void> {
  if (to === undefined) {
    output.resume();
    return;
  }
  output.pipe(to);
  to.once("error", () => output.destroy());
  // A client does not have to end its side of an output.
  await finished(to, { readable: false }).catch(() => undefined);
}

function success({ statusAsJson }: ClientStreams): string {
  return statusAsJson ? JSON.stringify({ metadata: {}, status: "Success" }) : "";
}

function exited({ statusAsJson }: ClientStreams, exitCode: number): string {
  const message = `command terminated with non-zero exit code: exit status ${exitCode}`;
  if (!statusAsJson) return message;
  const details = { causes: [{ reason: "ExitCode", message: String(exitCode) }] };
  return JSON.stringify({ metadata: {}, status: "Failure", message, reason: "NonZeroExitCode", details });
}

function failure({ statusAsJson }: ClientStreams, message: string): string {
  return statusAsJson
    ? JSON.stringify({ metadata: {}, status: "Failure", message, reason: "InternalError", code: 500 })
    : message;
}

function reported(error: unknown): string {
  return error instanceof KeelsonError ? error.message : "The session failed inside Keelson; see its log.";
}

/** Parses sizes from a resize channel: consecutive JSON objects, `{"Width":80,"Height":24}`. */
export class ResizeReader {
  #text = "";

  *feed(bytes: Buffer): Generator<{ readonly columns: number; readonly rows: number }> {
    this.#text += bytes.toString("latin1");
    for (let end = this.#text.indexOf("}"); end >= 0; end = this.#text.indexOf("}")) {
      const size = parseSize(this.#text.slice(0, end + 1));
      this.#text = this.#text.slice(end + 1);
      if (size !== undefined) yield size;
    }
    // A size has some thirty characters; anything much longer is invalid.
    if (this.#text.length > 256) this.#text = "";
  }
}

function parseSize(text: string): { columns: number; rows: number } | undefined {
  try {
    const size: unknown = JSON.parse(text);
    if (typeof size !== "object" || size === null || !("Width" in size) || !("Height" in size)) return undefined;
    const { Width: columns, Height: rows } = size;
    return isDimension(columns) && isDimension(rows) ? { columns, rows } : undefined;
  } catch {
    return undefined;
  }
}

function isDimension(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xffff;
}
