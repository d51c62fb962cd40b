// `keelson check --leaks`: orphaned objects on the host, with how to remove each.

import { basename } from "node:path";
import { detectCgroups } from "../../native/index.ts";
import { findLeaks, type Leak, type LeakKind } from "../../pod/leaks.ts";
import { transientUnits } from "../../pod/systemd/scope-owner.ts";
import { plain } from "../plain-text.ts";
import type { Config } from "./config.ts";
import { json, type Output } from "./print.ts";

export interface LeakReport {
  readonly text: string;
  readonly count: number;
}

/** A daemon start cleans up below its directories; the rest must be removed manually. */
const remedies: Readonly<Record<LeakKind, (leak: Leak) => string>> = {
  monitor: ({ object }) => `systemctl restart keelson; if it stays, kill -KILL ${object}`,
  "pod directory": () => "systemctl restart keelson",
  mount: ({ object }) => `umount --lazy ${object}`,
  "network namespace": ({ object }) => `umount --lazy ${object}; rm ${object}`,
  cgroup: ({ object }) =>
    object.endsWith(".scope") ? `systemctl stop ${basename(object)}` : `find ${object} -depth -type d -exec rmdir {} +`,
  "network lease": () => "systemctl restart keelson; if plugins fail, see network leftovers in keelson check",
  "writable layer": () => "systemctl restart keelson",
};

export async function leakReport(config: Config, output: Output): Promise<LeakReport> {
  const { root, state, cgroupRoot } = config;
  const leaks = await findLeaks({ root, state, cgroupRoot, cgroups: await detectCgroups(), units: transientUnits });
  const views = leaks.map((leak) => ({ ...leak, remedy: remedies[leak.kind](leak) }));
  return { text: output === "json" ? json(views) : plain(lines(views)), count: leaks.length };
}

function lines(views: readonly (Leak & { readonly remedy: string })[]): string {
  if (views.length === 0) return "no leaks\n";
  return views
    .map(({ kind, object, id, remedy }) => {
      const whose = object.includes(id) ? "" : ` of ${id.slice(0, 13)}`;
      return `${kind.padEnd(17)}  ${object}${whose}\n${" ".repeat(19)}→ ${remedy}\n`;
    })
    .join("");
}
