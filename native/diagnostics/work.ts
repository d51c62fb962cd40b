// Work in progress: what this process does or waits for, told as it begins and as it ends.
//
// It goes over channels (node:diagnostics_channel), so that nobody passes a list through every package; whoever keeps
// the list subscribes (cri/cli/work-list.ts). Without a subscriber nothing is kept and next to nothing done.

import { channel } from "node:diagnostics_channel";

export interface Work {
  readonly kind: "call" | "turn" | "start" | "tidying" | "pull" | "monitor call" | "plugin" | "session" | "output";
  /** Of performance.now(). */
  readonly since: number;
  /** Which object, which step and what it waits for; asked only when somebody looks. */
  describe(): string;
}

const begins = channel("keelson.work.begins");
const ends = channel("keelson.work.ends");
const nothing = () => undefined;

/** The work is in progress until the function that it returns is called. */
export function beginWork(kind: Work["kind"], describe: () => string): () => void {
  if (!begins.hasSubscribers) return nothing;
  const work: Work = { kind, since: performance.now(), describe };
  begins.publish(work);
  return () => ends.publish(work);
}

/** The work is in progress until the promise settles. */
export async function trackWork<Result>(
  kind: Work["kind"],
  describe: () => string,
  work: () => Promise<Result>,
): Promise<Result> {
  const ended = beginWork(kind, describe);
  try {
    return await work();
  } finally {
    ended();
  }
}

/** Hears of all work from now on, until the function that it returns is called. */
export function watchWork(begun: (work: Work) => void, ended: (work: Work) => void): () => void {
  const onBegin = (message: unknown) => {
    if (isWork(message)) begun(message);
  };
  const onEnd = (message: unknown) => {
    if (isWork(message)) ended(message);
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
