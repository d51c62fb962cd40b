// How an attach session ends: successfully, whatever the container's exit code, since the attach itself did not fail.
//
// If the container's stdin stays open after the client's, the session ends with the client's stdin, as in other
// runtimes: a user who pipes a line into `kubectl attach -i` waits for the end.

import { finished } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { isDoneWithin, type Session } from "../../native/index.ts";

/** How long the container may take to read the last input of a client that has closed, milliseconds. */
const restMs = 10_000;
/** Extra time for input that already left this process, some hundred KiB, and for the container's output meanwhile. */
const onItsWayMs = 1_000;

/** `inputStays`: the container's stdin stays open after the client's has ended. */
export function attached(session: Session, inputStays: boolean): Session {
  let left = false;
  const leave = async () => {
    await finished(session.stdin, { readable: false });
    await delay(onItsWayMs);
    left = true;
    session.cancel();
  };
  // If stdin fails, `done` reports it.
  if (inputStays) leave().catch(() => undefined);
  const end = { exitCode: 0, signal: 0 };
  const done = session.done.then(
    () => end,
    (error: unknown) => {
      if (left) return end;
      throw error;
    },
  );
  done.catch(() => undefined);
  return { ...session, done };
}

/** Cancels the session once the container has read the input, if it does: a hang-up drops input in between. */
export async function detach(session: Session): Promise<void> {
  await isDoneWithin(finished(session.stdin, { readable: false }), restMs).catch(() => undefined);
  await delay(onItsWayMs);
  session.cancel();
}
