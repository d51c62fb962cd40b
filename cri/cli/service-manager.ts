// systemd, or a compatible service manager: notified of each state (sd_notify(3)), sent watchdog pings, and the source
// of a socket that outlives the daemon (sd_listen_fds(3)). Without a service manager all of this does nothing.

import { firstLine, type Host, type Log } from "../../native/index.ts";
import type { Inherited } from "../api/socket.ts";
import { criErrors } from "../errors.ts";

const firstDescriptor = 3;

export interface ServiceManager {
  /** The socket to serve on; undefined if the daemon must create one. */
  readonly socket: Inherited | undefined;
  /** Startup is complete. */
  serving(status: string): Promise<void>;
  /** Lasts until `reloaded`. Neither is sent during startup, which systemd would then consider complete. */
  reloading(): Promise<void>;
  reloaded(status: string): Promise<void>;
  stopping(): Promise<void>;
  /**
   * Pings the watchdog at the requested interval while calls on `socket` are answered: a daemon whose event loop or
   * socket hangs is killed and restarted. Stops when disposed.
   */
  watch(socket: string): Disposable;
}

/**
 * Reads the environment and removes the variables meant for this process only. Rejects with socketNotInherited unless
 * exactly one socket was passed, or none.
 */
export async function serviceManager(
  environment: NodeJS.ProcessEnv,
  host: Pick<Host, "notifyManager" | "adoptListener">,
  log: Log,
): Promise<ServiceManager> {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_PID } = environment;
  for (const name of ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"])
    delete environment[name];
  const self = String(process.pid);
  const notify = async (...lines: string[]) => {
    if (NOTIFY_SOCKET === undefined) return;
    await host
      .notifyManager(NOTIFY_SOCKET, lines.join("\n"))
      .catch((error: unknown) => log("warn", "systemd not notified", { lines, error: firstLine(error) }));
  };
  const watchdogMs = (WATCHDOG_PID ?? self) === self ? Number(WATCHDOG_USEC ?? 0) / 1000 : 0;
  let hasStarted = false;
  const ready = (status: string) => notify("READY=1", `STATUS=${status}`);
  return {
    socket: LISTEN_PID === self ? await adopt(Number(LISTEN_FDS), host) : undefined,
    serving: (status) => {
      hasStarted = true;
      return ready(status);
    },
    reloading: async () => {
      // hrtime is CLOCK_MONOTONIC, the clock that systemd expects.
      if (hasStarted) await notify("RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
    },
    reloaded: async (status) => {
      if (hasStarted) await ready(status);
    },
    stopping: () => notify("STOPPING=1"),
    watch: (socket) => watch(socket, watchdogMs, () => notify("WATCHDOG=1"), log),
  };
}

async function adopt(count: number, host: Pick<Host, "adoptListener">): Promise<Inherited> {
  if (count !== 1) throw criErrors.socketNotInherited({ reason: `${count} sockets were passed, not one` });
  try {
    return { descriptor: firstDescriptor, path: await host.adoptListener(firstDescriptor) };
  } catch (error) {
    throw criErrors.socketNotInherited({ reason: firstLine(error) }, error);
  }
}

/** Pings at a third of the watchdog interval, so that one answer may be late. */
function watch(socket: string, limitMs: number, ping: () => Promise<void>, log: Log): Disposable {
  if (!(limitMs > 0)) return { [Symbol.dispose]: () => undefined };
  const everyMs = limitMs / 3;
  let asking = false;
  const timer = setInterval(async () => {
    if (asking) return;
    asking = true;
    try {
      const { ownSocketAnswers } = await import("./own-socket.ts");
      await ownSocketAnswers(socket, everyMs);
      await ping();
    } catch (error) {
      log("error", "the socket does not answer; not pinging systemd's watchdog", { socket, error: firstLine(error) });
    }
    asking = false;
  }, everyMs);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
