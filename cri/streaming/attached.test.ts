// How an attach ends: by the container, by the client's input, by being cancelled.

import { PassThrough, Writable } from "node:stream";
import { expect, onTestFinished, test, vi } from "vitest";
import type { ExecOutcome, Session } from "../../native/index.ts";
import { attached, detach } from "./attached.ts";

/** A session with a container, and what ends it. */
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

test("attaching has not failed when the container fails", async () => {
  const { session, exit } = attachment();
  const { done } = attached(session, true);
  exit(3);
  expect(await done).toEqual({ exitCode: 0, signal: 0 });
});

test("it ends with the client's input where the container's goes on", async () => {
  const { session } = attachment();
  const { stdin, done } = attached(session, true);
  stdin.end("a line\n");
  expect(await done).toEqual({ exitCode: 0, signal: 0 });
});

test("it goes on where the container's input ends with the client's, and one that is cancelled says so", async () => {
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

test("a client that has closed is let go of, though the container does not take its last input", async () => {
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
