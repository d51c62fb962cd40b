// Starts a pod's monitor, a process that outlives the daemon, and waits until it is ready.

import { Socket } from "node:net";
import { isDoneWithin, withTimeLimit } from "../async/time-limit.ts";
import type { JsonObject } from "../json/json.ts";
import { adoptChild, type Child } from "../processes/child.ts";
import { KeelsonError, messageOf } from "./errors.ts";
import { parseFailure } from "./failure.ts";
import { decodeJson, FrameDecoder, FrameError, FrameType, framesFromMonitor } from "./frames.ts";
import type { Monitor } from "./monitor.ts";
import { connectMonitor } from "./monitor-client.ts";
import { MonitorError, monitorErrors } from "./monitor-errors.ts";
import type { MonitorForkServer } from "./monitor-fork-server.ts";
import { parseReady, type Ready } from "./monitor-messages.ts";

export interface SpawnOptions {
  readonly forkServer: MonitorForkServer;
  /** Contains sandbox.json (PROTOCOL.md, "Files of a pod"). */
  readonly podDirectory: string;
  /** Milliseconds within which the sandbox must be ready. */
  readonly timeoutMs: number;
  /** Called once the pod's own network namespace is pinned and set up, before the rest of the sandbox is ready. */
  readonly onNetwork?: () => void;
}

export interface SpawnedMonitor extends Ready {
  readonly monitor: Monitor;
}

/** How long a killed monitor may take to be reaped. */
const reapMs = 5_000;

/**
 * Has a monitor forked, in its own session, and waits until its sandbox is ready. Rejects with a MonitorError if the
 * monitor could not create the sandbox (then only the pin of its network is left), or with `monitorStartTimeout` or
 * `monitorNotStarted` if it hung or died: it has been killed and reaped then, but the caller must clean up after it.
 */
export async function spawnMonitor(options: SpawnOptions): Promise<SpawnedMonitor> {
  const { forkServer, podDirectory, timeoutMs } = options;
  const { descriptor, giveUp } = await forkServer.fork(podDirectory).catch((error: unknown) => {
    throw monitorErrors.monitorNotStarted({ podDirectory, reason: messageOf(error) }, error);
  });
  const readiness = new Socket({ fd: descriptor, writable: false });
  const forked = Promise.withResolvers<Child | undefined>();
  readiness.once("close", () => forked.resolve(undefined));
  const onFork = (pid: number) => forked.resolve(adoptChild(pid));
  try {
    const late = () => monitorErrors.monitorStartTimeout({ podDirectory, timeoutMs });
    const sandbox = await withTimeLimit(ready(readiness, options, onFork), timeoutMs, late);
    (await forked.promise)?.unref();
    return { monitor: connectMonitor(podDirectory), ...sandbox };
  } catch (error) {
    const isLate = error instanceof KeelsonError && error.name === "monitorStartTimeout";
    // A fork server that hangs must not fork it later.
    if (isLate && !(await isDoneWithin(forked.promise, 0))) await giveUp();
    if (await isDoneWithin(forked.promise, reapMs)) await endMonitor(await forked.promise);
    throw error;
  } finally {
    readiness.removeAllListeners("close").destroy();
  }
}

/** `child` is undefined if nothing was forked, as the closed pipe shows. */
async function endMonitor(child: Child | undefined): Promise<void> {
  if (child === undefined) return;
  child.kill();
  // Past the deadline it hangs in the kernel; it is reaped whenever it exits.
  if (!(await isDoneWithin(child.exit, reapMs))) child.unref();
}

function ready(
  readiness: Socket,
  { podDirectory, onNetwork }: SpawnOptions,
  onFork: (pid: number) => void,
): Promise<Ready> {
  const notStarted = (reason: string, cause?: unknown) =>
    monitorErrors.monitorNotStarted({ podDirectory, reason }, cause);
  return new Promise((resolve, reject) => {
    const decoder = new FrameDecoder(framesFromMonitor);
    readiness.on("data", (chunk: Buffer) => {
      try {
        decoder.push(chunk, (type, payload) => {
          const message = decodeJson(payload);
          if (type !== FrameType.event) resolve(readReadiness(type, message));
          else if (message.type === "forked") onFork(parseReady(message).pid);
          else if (message.type === "network") onNetwork?.();
        });
      } catch (error) {
        if (error instanceof KeelsonError) reject(error);
        else reject(notStarted(error instanceof FrameError ? error.message : String(error), error));
      }
    });
    readiness.on("error", (error) => reject(notStarted(error.message, error)));
    readiness.on("close", () => reject(notStarted("it exited before it was ready")));
  });
}

function readReadiness(type: FrameType, message: JsonObject): Ready {
  if (type === FrameType.reply) return parseReady(message);
  const failure = type === FrameType.error ? parseFailure(message) : undefined;
  if (failure === undefined) throw new FrameError("it sent a frame other than EVENT, REPLY or ERROR");
  throw new MonitorError(failure);
}
