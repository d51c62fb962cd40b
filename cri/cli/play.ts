// `keelson play`: its options, signals and exit status. The implementation is in cri/play.

import { loadHost } from "../../native/index.ts";
import { down } from "../play/down.ts";
import { play } from "../play/play.ts";
import { Report } from "../play/report.ts";

export interface PlayCommand {
  readonly files: readonly string[];
  readonly socket: string;
  readonly root: string;
  readonly down: boolean;
  readonly logs: boolean;
}

/** Resolves to the exit status. */
export async function runPlay(command: PlayCommand): Promise<number> {
  // Its files are read by the pods' users, which a login shell's umask may forbid.
  process.umask(0o022);
  const report = await Report.to(process.stderr);
  const host = loadHost();
  const { stop, hurry } = stopSignals(report);
  const { files, socket, root } = command;
  if (command.down) {
    await down({ files, socket, root, host, report, stop });
    return 0;
  }
  const logs = command.logs ? process.stdout : undefined;
  return (await play({ files, socket, root, host, report, logs, stop, hurry })) ? 0 : 1;
}

/** The first signal stops everything with grace periods, the second kills it. A closed output counts as a signal. */
function stopSignals(report: Report): { readonly stop: AbortSignal; readonly hurry: AbortSignal } {
  const [stop, hurry] = [new AbortController(), new AbortController()];
  const onSignal = () => {
    if (stop.signal.aborted) return hurry.abort();
    stop.abort();
    report.line("play", "taking down what it started; signal again to kill it without grace periods");
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, onSignal);
  process.stdout.on("error", () => {
    if (!stop.signal.aborted) onSignal();
  });
  // If stderr is closed, there is nowhere to report to.
  process.stderr.on("error", () => undefined);
  return { stop: stop.signal, hurry: hurry.signal };
}
