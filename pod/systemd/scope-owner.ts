// Whose pod's a scope is: its description says it, to whoever reads `systemctl status` and to `keelson check --leaks`,
// for several Keelsons may run on a host.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Where systemd keeps what transient units were started with, as unit files. */
export const transientUnits = "/run/systemd/transient";

/** `state` is the daemon's state directory, which no other has. */
export function scopeDescription(pod: { namespace: string; name: string }, state: string): string {
  return `Pod ${pod.namespace}/${pod.name} of ${state}`;
}

/** The state directory of the scope's daemon. Undefined where nobody says it: systemd knows no such unit any more. */
export async function ownerOfScope(name: string, units: string): Promise<string | undefined> {
  const unit = await readFile(join(units, name), "utf8").catch(() => "");
  const [, owner] = /^Description=Pod .* of (\/.*)$/m.exec(unit) ?? [];
  // systemd.unit(5), specifiers.
  return owner?.replaceAll("%%", "%");
}
