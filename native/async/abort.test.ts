import { expect, test } from "vitest";
import { orAborted } from "./abort.ts";

const never = new Promise<number>(() => undefined);

test("not aborted: settles like the work", async () => {
  const { signal } = new AbortController();
  expect(await orAborted(Promise.resolve(1), signal)).toBe(1);
  await expect(orAborted(Promise.reject(new Error("work")), signal)).rejects.toThrow("work");
});

test("aborted before: rejects without waiting, and a failure of the work is ignored", async () => {
  const gone = AbortSignal.abort(new Error("gone"));
  await expect(orAborted(never, gone)).rejects.toThrow("gone");
  await expect(orAborted(Promise.reject(new Error("work")), gone)).rejects.toThrow("gone");
});

test("aborted during: rejects at once, and a later failure of the work is ignored", async () => {
  const caller = new AbortController();
  const work = Promise.withResolvers<number>();
  const waiting = orAborted(work.promise, caller.signal, () => new Error("no longer wanted"));
  caller.abort();
  await expect(waiting).rejects.toThrow("no longer wanted");
  work.reject(new Error("too late to matter"));
  // An unhandled rejection would fail the run.
  await new Promise((resolve) => setImmediate(resolve));
});

test("aborted after: changes nothing, and no listener is left", async () => {
  const caller = new AbortController();
  let asked = 0;
  const waiting = orAborted(Promise.resolve(1), caller.signal, () => asked++);
  expect(await waiting).toBe(1);
  caller.abort();
  expect(asked).toBe(0);
});
