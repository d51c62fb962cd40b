// How a session of an attach ends: well, whatever the container exits with, for attaching has not failed.
//
// Where the container's input goes on without the client's, it ends with that, as on the peers: who pipes a line into
// `kubectl attach -i` waits for the end.

import { finished } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { isDoneWithin, type Session } from "../../native/index.ts";

/** How long an attached client that has closed may take to give the container its last input, milliseconds. */
const restMs = 10_000;
/** And what has left here already, some hundred KiB; what the container answers to it comes meanwhile. */
const onItsWayMs = 1_000;

/** `inputStays`: the container's input stays open when that of the client has ended. */
export function attached(session: Session, inputStays: boolean): Session {
  let left = false;
  const leave = async () => {
    await finished(session.stdin, { readable: false });
    await delay(onItsWayMs);
    left = true;
    session.cancel();
  };
  // Of an input that breaks off `done` tells.
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

/** Once the container has the input, if it takes it: what lies between here and there a hang-up drops. */
export async function detach(session: Session): Promise<void> {
  await isDoneWithin(finished(session.stdin, { readable: false }), restMs).catch(() => undefined);
  await delay(onItsWayMs);
  session.cancel();
}
