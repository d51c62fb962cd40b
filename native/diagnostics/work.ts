// Work in progress: what this process does or waits for, told as it begins and as it ends.
//
// It goes over channels (node:diagnostics_channel), so that nobody passes a list through every package; whoever keeps
// the list subscribes (cri/cli/work-list.ts, cri/metrics/). Without a subscriber nothing is kept and next to nothing done.

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
  /** Which of its kind, one of few: an RPC, a plugin and its command. Empty where there is but one. */
  readonly name: string;
  /** Of performance.now(). */
  readonly since: number;
  /** Which object, which step and what it waits for; asked only when somebody looks. */
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

/** The work is in progress until the function that it returns is called for the first time. */
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

/** The work is in progress until the promise settles. */
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

/** Hears of all work from now on, until the function that it returns is called. */
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
