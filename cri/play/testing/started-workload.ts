// A workload that runs on a scripted CRI server, with a clock controlled by the tests.

import { afterEach, beforeEach, vi } from "vitest";
import { Images } from "../images.ts";
import type { Workload } from "../manifest.ts";
import { Report } from "../report.ts";
import { RuntimeView } from "../runtime-view.ts";
import type { Container, PodSpec } from "../supported.ts";
import { WorkloadRun } from "../workload-run.ts";
import { type Act, ScriptedCri } from "./scripted-cri.ts";

let closing: AbortController;

/** Fakes time for the whole test file, which must also replace node:fs/promises. */
export function holdTime(): void {
  beforeEach(() => {
    closing = new AbortController();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
  });
  afterEach(() => {
    closing.abort(new Error("the test is over"));
    vi.useRealTimers();
  });
}

export const container = (name: string, more: Partial<Container> = {}): Container => ({
  name,
  image: `local/${name}:1`,
  ...more,
});

/** A running workload on its own server. */
export function start(spec: PodSpec, script: Record<string, Act[]>, more: Partial<Workload> = {}) {
  const server = new ScriptedCri(script);
  const lines: string[] = [];
  const report = Report.plain({ write: (text) => lines.push(text.trimEnd()) });
  const view = new RuntimeView(server.cri, "run", report);
  view.follow(closing.signal);
  const workload: Workload = {
    kind: "Pod",
    namespace: "default",
    name: "p",
    template: { spec, labels: {}, annotations: {} },
    replicas: 1,
    backoffLimit: 6,
    activeDeadlineSeconds: undefined,
    ...more,
  };
  const removed: string[] = [];
  const host = {
    unmount: async () => undefined,
    removeTree: async (path: string) => {
      removed.push(path);
    },
  };
  const run = new WorkloadRun(
    { workload, manifest: { configMaps: new Map(), secrets: new Map() }, directory: "/play", run: "run" },
    { cri: server.cri, view, images: new Images(server.cri, report), report, host, onLog: () => undefined },
  );
  let over = false;
  const ended = run.run().finally(() => {
    over = true;
  });
  ended.catch(() => undefined);
  return { server, run, lines, removed, ended, isOver: () => over };
}

/** Advances the clock in small steps until the condition holds, at most by this many seconds. */
export async function turn(condition: () => boolean, seconds = 3600): Promise<void> {
  for (let passed = 0; !condition(); passed += 0.25) {
    if (passed > seconds) throw new Error(`not within ${seconds} s: ${condition}`);
    await vi.advanceTimersByTimeAsync(250);
  }
}

export const phases = (run: WorkloadRun) => [...run.pods].map(({ phase, reason }) => `${phase} ${reason}`.trim());
