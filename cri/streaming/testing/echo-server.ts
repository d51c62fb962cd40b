// A streaming server on loopback whose processes and ports echo, to compare the data received with the data sent.

import { Duplex, PassThrough } from "node:stream";
import { type ExecOutcome, KeelsonError, type Session } from "../../../native/index.ts";
import { newContainerId, newSandboxId } from "../../../pod/ids.ts";
import { type StreamTarget, startStreamingServer } from "../http-server.ts";
import type { Streams } from "../remote-command.ts";

/** As on a terminal, this input byte ends the process, with exit code 7. */
export const endOfInput = 0x04;
/** The pod's port whose server reads nothing. Nothing listens on port 1. */
export const deafPort = 2;

export interface EchoServer extends AsyncDisposable {
  readonly port: number;
  /** The path of a new session. */
  exec(streams?: Partial<Streams>): string;
  attach(): string;
  forward(ports: readonly number[]): string;
  /** Sessions and forwarded connections that have not ended. */
  readonly open: ReadonlySet<unknown>;
  /** The sizes set on terminals, `80x24`. */
  readonly sizes: readonly string[];
  /** The bytes read by each finished process, and its exit code; undefined if it was killed with its session. */
  readonly ends: readonly ProcessEnd[];
  /** The next execs wait for this before they start their processes. */
  readonly held: { until: Promise<void> };
}

interface ProcessEnd {
  readonly bytes: number;
  readonly exitCode: number | undefined;
}

/** The records of all of a server's processes. */
interface Traces {
  readonly open: Set<unknown>;
  readonly sizes: string[];
  readonly ends: ProcessEnd[];
  readonly held: { until: Promise<void> };
}

export async function startEchoServer(): Promise<EchoServer> {
  const traces: Traces = { open: new Set(), sizes: [], ends: [], held: { until: Promise.resolve() } };
  const { open } = traces;
  const server = await startStreamingServer({
    pods: {
      exec: async (_, { tty }) => {
        await traces.held.until;
        return echo(traces, tty);
      },
      attach: async () => echo(traces, false),
      portForward: async (_, port) => {
        if (port === 1) throw new KeelsonError("Refused", "Unavailable", "Nothing listens on port 1 of the pod.");
        const connection = port === deafPort ? deaf() : new PassThrough({ allowHalfOpen: true });
        open.add(connection);
        connection.once("close", () => open.delete(connection));
        return connection;
      },
    },
    log: () => undefined,
    address: "127.0.0.1",
    port: 0,
  });
  const path = (target: StreamTarget) => new URL(server.url(target)).pathname;
  const [id, sandbox] = [newContainerId(), newSandboxId()];
  const all = { stdin: true, stdout: true, stderr: true, tty: false };
  return {
    port: Number(new URL(server.url({ kind: "portforward", id: sandbox, ports: [] })).port),
    exec: (streams = {}) => path({ kind: "exec", id, command: ["echo"], streams: { ...all, ...streams } }),
    attach: () => path({ kind: "attach", id, streams: all, inputStays: false }),
    forward: (ports) => path({ kind: "portforward", id: sandbox, ports }),
    ...traces,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

function deaf(): Duplex {
  return new Duplex({ read: () => undefined, write: () => undefined });
}

/** A process that writes its input to stdout and "end" to stderr; it exits 0 at the end of its input. */
function echo({ open, sizes, ends }: Traces, tty: boolean): Session {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const { promise: done, resolve, reject } = Promise.withResolvers<ExecOutcome>();
  let bytes = 0;
  const session: Session = {
    stdin,
    stdout,
    stderr,
    resize: (columns, rows) => sizes.push(`${columns}x${rows}`),
    done,
    cancel: () =>
      end(undefined, () => reject(new KeelsonError("Cancelled", "Cancelled", "The session was cancelled."))),
  };
  const end = (exitCode: number | undefined, settle: () => void) => {
    if (!open.delete(session)) return;
    ends.push({ bytes, exitCode });
    stdin.destroy();
    stdout.end();
    stderr.end(tty ? "" : "end");
    settle();
  };
  const exit = (exitCode: number) => end(exitCode, () => resolve({ exitCode, signal: 0 }));
  open.add(session);
  done.catch(() => undefined);
  stdin.on("data", (piece: Buffer) => {
    bytes += piece.length;
    const last = piece.indexOf(endOfInput);
    if (!stdout.write(last < 0 ? piece : piece.subarray(0, last)) && !stdout.destroyed) {
      stdin.pause();
      // After a close there is no reader any more.
      for (const event of ["drain", "close"]) stdout.once(event, () => stdin.resume());
    }
    if (last >= 0) exit(7);
  });
  stdin.once("end", () => exit(0));
  return session;
}
