// `keelson play`: its options, its signals and its exit status. What it does is in cri/play.

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
  // Users of the pods read what it writes; a login shell's umask may forbid it.
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

/** The first signal lets all end with its grace period, the second ends it now. A reader of the output that goes is one. */
function stopSignals(report: Report): { readonly stop: AbortSignal; readonly hurry: AbortSignal } {
  const [stop, hurry] = [new AbortController(), new AbortController()];
  const onSignal = () => {
    if (stop.signal.aborted) return hurry.abort();
    stop.abort();
    report.line("play", "taking down what it started; once more to end it without grace");
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, onSignal);
  process.stdout.on("error", () => {
    if (!stop.signal.aborted) onSignal();
  });
  // Without a terminal there is nobody to tell.
  process.stderr.on("error", () => undefined);
  return { stop: stop.signal, hurry: hurry.signal };
}
