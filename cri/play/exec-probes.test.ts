// The pace and thresholds of probes, with exec probes and a clock controlled by the tests.

import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runtime } from "../api/generated/messages.js";
import type { Cri } from "./cri-client.ts";
import { probe } from "./probes.ts";
import type { Container } from "./supported.ts";
import { ServerError } from "./testing/scripted-cri.ts";

let over: AbortController;
beforeEach(() => {
  over = new AbortController();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  over.abort(new Error("the test is over"));
  vi.useRealTimers();
});

const exec = { command: ["check", "$(A)"] };

/**
 * Runs probes of which each attempt exits with the next of `exits`, the last one again and again; an error is thrown.
 * `seen` has the events with their times in seconds.
 */
function start(container: Partial<Container>, exits: readonly (number | Error)[], attemptMs = 0) {
  const seen: string[] = [];
  const began = performance.now();
  const note = (event: string) => seen.push(`${(performance.now() - began) / 1000} ${event}`);
  const asked: Parameters<Cri["execSync"]>[] = [];
  const execSync: Cri["execSync"] = async (...call) => {
    const exit = exits[Math.min(asked.push(call), exits.length) - 1] ?? 0;
    if (attemptMs > 0) await new Promise((resolve) => setTimeout(resolve, attemptMs));
    if (exit instanceof Error) throw exit;
    note(`exit ${exit}`);
    return new runtime.v1.ExecSyncResponse({ exitCode: exit });
  };
  const target = {
    container: { name: "c", ...container },
    containerId: "id",
    podIp: "",
    environment: new Map([["A", Buffer.from("value")]]),
  };
  const events = {
    started: () => note("started"),
    ready: (ready: boolean) => note(ready ? "ready" : "not ready"),
    failed: () => undefined,
  };
  probe({ execSync }, target, events, over.signal).then(
    (verdict) => note(`stop, ${verdict.probe}`),
    () => undefined,
  );
  return { seen, asked };
}

test("a container without probes is started and ready at once", async () => {
  const { seen } = start({}, []);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(seen).toEqual(["0 started", "0 ready"]);
});

test("attempts begin after the initial delay, a period apart however long they take; successes and failures are counted in a row", async () => {
  const readinessProbe = { exec, initialDelaySeconds: 3, periodSeconds: 5, successThreshold: 2, failureThreshold: 3 };
  const { seen } = start({ readinessProbe }, [0, 1, 0, 0, 1, 1, 0, 1, 1, 1], 1000);
  await vi.advanceTimersByTimeAsync(52_000);
  expect(seen.filter((event) => !event.includes("exit"))).toEqual(["0 started", "19 ready", "49 not ready"]);
  expect(seen.filter((event) => event.includes("exit")).map((event) => Number.parseInt(event, 10))).toEqual(
    Array.from({ length: 10 }, (_, attempt) => 4 + 5 * attempt),
  );
});

test("the initial delay counts from the container's start, also after a startup probe", async () => {
  const startupProbe = { exec, periodSeconds: 10 };
  const livenessProbe = { exec, initialDelaySeconds: 15, periodSeconds: 100 };
  const readinessProbe = { exec, initialDelaySeconds: 5, periodSeconds: 100 };
  const { seen } = start({ startupProbe, livenessProbe, readinessProbe }, [1, 0]);
  await vi.advanceTimersByTimeAsync(60_000);
  const inSeconds = seen.map((event) => event.replace(/\.\d+/, ""));
  expect(inSeconds).toEqual(["0 exit 1", "10 exit 0", "10 started", "10 exit 0", "10 ready", "15 exit 0"]);
});

test("an attempt that the runtime could not make says nothing, a late one is a failure", async () => {
  const failed = (code: status) => new ServerError(code, "no");
  const livenessProbe = { exec, periodSeconds: 1, failureThreshold: 2 };
  const { seen } = start({ livenessProbe }, [1, failed(status.UNAVAILABLE), failed(status.DEADLINE_EXCEEDED)]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(seen.at(-1)).toBe("2 stop, liveness");
  const unable = start({ livenessProbe }, [failed(status.UNAVAILABLE)]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(unable.seen).toEqual(["0 started", "0 ready"]);
});

test("the command has the container's variables; the runtime gets the timeout, 1 s by default, and 5 s more to report it", async () => {
  const [short, long] = [
    start({ livenessProbe: { exec } }, []),
    start({ livenessProbe: { exec, timeoutSeconds: 7 } }, []),
  ];
  await vi.advanceTimersByTimeAsync(1000);
  const call = ({ asked: [first] }: typeof short) => [first?.[0].cmd, Number(first?.[0].timeout), first?.[1]?.ms];
  expect(call(short)).toEqual([["check", "value"], 1, 6000]);
  expect(call(long)).toEqual([["check", "value"], 7, 12_000]);
});
