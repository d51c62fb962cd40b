// Exec and attach: a session in the pod joined to a client's streams, whatever carries them.
// Source: k8s.io/apimachinery pkg/util/remotecommand (the protocols v1 to v5).

import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { KeelsonError, orAborted, type Session } from "../../native/index.ts";

/** The streams that an exec or attach was asked for. */
export interface Streams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** A client's end. `stdin`, `stdout`, `stderr` are there as asked for; the transport owns the framing. */
export interface ClientStreams {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  /** From v4 on the outcome is a status object, before it plain text and only for failures. */
  readonly statusAsJson: boolean;
  /** Calls back with each size the client's terminal takes. */
  onResize(resize: (columns: number, rows: number) => void): void;
  /** Sends the outcome and ends the error stream; resolves when that is written, or the client gone. */
  sendOutcome(text: string): Promise<void>;
  /** Resolves when the client is gone. */
  readonly gone: Promise<void>;
}

/**
 * Runs until the process ends or the client is gone, then tells the client how it ended: output first,
 * then the status. A client that is gone ends the session (an exec is killed, an attach detaches). So does `ending`,
 * whose reason the client is then told: without a status, a client over SPDY takes the end for success.
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
  // The client may read the rest of the output as slowly as it likes: the server ends idle sessions.
  await orAborted(Promise.race([Promise.all(outputs), client.gone]), ending).catch(() => undefined);
  await client.sendOutcome(ending.aborted ? failure(client, reported(ending.reason)) : outcome);
}

function joinInput(session: Session, client: ClientStreams): void {
  client.onResize((columns, rows) => session.resize(columns, rows));
  if (client.stdin === undefined) session.stdin.end();
  else {
    session.stdin.on("error", () => undefined);
    // Ends with the client's half-close. A process that is gone takes no more: what comes then is read and dropped.
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
  // A client need not end its side of an output.
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

/** Sizes as they come on a resize channel: JSON objects one after the other, `{"Width":80,"Height":24}`. */
export class ResizeReader {
  #text = "";

  *feed(bytes: Buffer): Generator<{ readonly columns: number; readonly rows: number }> {
    this.#text += bytes.toString("latin1");
    for (let end = this.#text.indexOf("}"); end >= 0; end = this.#text.indexOf("}")) {
      const size = parseSize(this.#text.slice(0, end + 1));
      this.#text = this.#text.slice(end + 1);
      if (size !== undefined) yield size;
    }
    // A size has some thirty characters; anything much longer is none.
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
