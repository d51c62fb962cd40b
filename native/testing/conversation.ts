// A conversation of a daemon with a monitor: every call once, for comparison with recordings of earlier versions.
// A recording (native/client/fixtures/) has each frame in order, and the client's results.

import { text } from "node:stream/consumers";
import { KeelsonError, type Monitor, MonitorError, type MonitorEvent, type StartRequest } from "../index.ts";

export interface RecordedFrame {
  /** Connections are numbered in the order in which they were opened. */
  readonly connection: number;
  readonly to: "monitor" | "daemon";
  /** The 8 bytes before the payload, in hexadecimal digits. */
  readonly header: string;
  readonly payload: string;
}

export interface Recording {
  readonly podDirectory: string;
  readonly sleeper: StartRequest;
  readonly missing: StartRequest;
  readonly frames: readonly RecordedFrame[];
  /** The results of `converse`. */
  readonly results: readonly object[];
}

const soon = { timeoutMs: 10_000 };

/** Uses two containers: one that sleeps, one whose program does not exist. Returns the outcome of each call. */
export async function converse(monitor: Monitor, sleeper: StartRequest, missing: StartRequest): Promise<object[]> {
  const { id } = sleeper;
  const results: object[] = [];
  const call = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    const answer = await work().then((value) => ({ value }), describeError);
    results.push({ name, ...answer });
  };
  const watch = new AbortController();
  const events = monitor.watch(watch.signal)[Symbol.asyncIterator]();
  const next = async (): Promise<MonitorEvent | undefined> => (await events.next()).value ?? undefined;
  await call("hello", () => monitor.hello(soon));
  await call("watch", next);
  await call("start", () => monitor.start(sleeper, soon));
  await call("start of what is missing", () => monitor.start(missing, soon));
  await call("state", () => monitor.state(soon));
  await call("execSync", () =>
    monitor.execSync({ id, args: ["sh", "-c", "echo out; exit 3"], timeoutMs: 5_000 }, soon),
  );
  await call("execSync of what is missing", () => monitor.execSync({ id, args: ["/none"], timeoutMs: 0 }, soon));
  await call("exec", async () => {
    const session = await monitor.exec({ id, args: ["cat"], tty: false, stdin: true, timeoutMs: 0 }, soon);
    session.stdin.end("through cat");
    return [await text(session.stdout), await session.done];
  });
  await call("update", () => monitor.update(id, { memory: { limit: 64 << 20 } }, soon));
  await call("kill", () => monitor.kill(id, 18, soon));
  await call("reopenLog", () => monitor.reopenLog(id, soon));
  await call("portForward", () => monitor.portForward(1, soon));
  await call("stop", () => monitor.stop(id, 15, 100, soon));
  await call("watch", next);
  watch.abort();
  await call("delete", () => monitor.delete(id, soon));
  await call("delete again", () => monitor.delete(id, soon));
  await call("shutdown", () => monitor.shutdown(0, soon));
  return results.map((result) => JSON.parse(JSON.stringify(result, plain)));
}

function describeError(error: unknown): object {
  if (error instanceof MonitorError)
    return { code: error.code, kind: error.kind, step: error.step, errno: error.errno };
  return { code: error instanceof KeelsonError ? error.code : String(error) };
}

function plain(this: unknown, _key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
