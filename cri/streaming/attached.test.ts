// How an attach ends: by the container's exit, by the end of the client's input, by cancellation.

import { PassThrough, Writable } from "node:stream";
import { expect, onTestFinished, test, vi } from "vitest";
import type { ExecOutcome, Session } from "../../native/index.ts";
import { attached, detach } from "./attached.ts";

/** A session with a container, and functions that end it. */
function attachment() {
  const { promise: done, resolve, reject } = Promise.withResolvers<ExecOutcome>();
  const stdin = new PassThrough();
  stdin.resume();
  const session: Session = {
    stdin,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    resize: () => undefined,
    done,
    cancel: () => reject(new Error("cancelled")),
  };
  return { session, exit: (exitCode: number) => resolve({ exitCode, signal: 0 }) };
}

test("an attach succeeds even if the container fails", async () => {
  const { session, exit } = attachment();
  const { done } = attached(session, true);
  exit(3);
  expect(await done).toEqual({ exitCode: 0, signal: 0 });
});

test("it ends with the client's input if the container's stays open", async () => {
  const { session } = attachment();
  const { stdin, done } = attached(session, true);
  stdin.end("a line\n");
  expect(await done).toEqual({ exitCode: 0, signal: 0 });
});

test("it continues if the container's input ends with the client's, and reports a cancellation", async () => {
  const { session } = attachment();
  const { stdin, done, cancel } = attached(session, false);
  let over = false;
  done.catch(() => (over = true));
  stdin.end("a line\n");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(over).toBe(false);
  cancel();
  await expect(done).rejects.toThrow("cancelled");
});

test("a client that has closed is detached even if the container does not read its last input", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const { session } = attachment();
  const stdin = new Writable({ write: () => undefined });
  const cancelled = Promise.withResolvers<void>();
  const left = detach({ ...session, stdin, cancel: cancelled.resolve });
  stdin.end("a line\n");
  vi.advanceTimersByTime(10_000);
  await Promise.all([left, cancelled.promise]);
});
