// Work in progress: what this process does or waits for, published when it begins and when it ends.
//
// It is published on channels (node:diagnostics_channel), so that no list has to be passed through every package; those
// who keep a list subscribe (cri/cli/work-list.ts, cri/metrics/). Without a subscriber it costs next to nothing.

import { channel } from "node:diagnostics_channel";
import { KeelsonError, type StatusCode } from "../client/errors.ts";

export interface Work {
  readonly kind:
    | "call"
    | "turn"
    | "start"
    | "tidying"
    | "pull"
    | "registry request"
    | "monitor call"
    | "plugin"
    | "session"
    | "output";
  /** Which one of its kind, out of a few: an RPC, a plugin and its command. Empty if there is only one. */
  readonly name: string;
  /** Start time, from performance.now(). */
  readonly since: number;
  /** Which object, which step and what it waits for; called only when work is listed. */
  describe(): string;
}

/** How work ended. */
export type Outcome = StatusCode | "OK";

interface Ended {
  readonly work: Work;
  readonly outcome: Outcome;
}

const begins = channel("keelson.work.begins");
const ends = channel("keelson.work.ends");
const nothing = () => undefined;

/** Marks work as in progress until the returned function is called for the first time. */
export function beginWork(kind: Work["kind"], describe: () => string, name = ""): (outcome?: Outcome) => void {
  if (!begins.hasSubscribers) return nothing;
  const work: Work = { kind, name, since: performance.now(), describe };
  begins.publish(work);
  let isOver = false;
  return (outcome = "OK") => {
    if (isOver) return;
    isOver = true;
    const ended: Ended = { work, outcome };
    ends.publish(ended);
  };
}

/** Marks work as in progress until its promise settles. */
export async function trackWork<Result>(
  kind: Work["kind"],
  describe: () => string,
  work: () => Promise<Result>,
  name = "",
): Promise<Result> {
  const ended = beginWork(kind, describe, name);
  try {
    const result = await work();
    ended();
    return result;
  } catch (error) {
    ended(error instanceof KeelsonError ? error.code : "Internal");
    throw error;
  }
}

/** Subscribes to all work from now on, until the returned function is called. */
export function watchWork(begun: (work: Work) => void, ended: (work: Work, outcome: Outcome) => void): () => void {
  const onBegin = (message: unknown) => {
    if (isWork(message)) begun(message);
  };
  const onEnd = (message: unknown) => {
    if (isEnded(message)) ended(message.work, message.outcome);
  };
  begins.subscribe(onBegin);
  ends.subscribe(onEnd);
  return () => {
    begins.unsubscribe(onBegin);
    ends.unsubscribe(onEnd);
  };
}

function isWork(message: unknown): message is Work {
  return typeof message === "object" && message !== null && "describe" in message;
}

function isEnded(message: unknown): message is Ended {
  return typeof message === "object" && message !== null && "work" in message && "outcome" in message;
}
