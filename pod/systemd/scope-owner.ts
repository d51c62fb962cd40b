// The owner of a scope, because several Keelsons may run on a host. It is in the scope's description, for readers of
// `systemctl status` and for `keelson check --leaks`.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Where systemd keeps the unit files of transient units. */
export const transientUnits = "/run/systemd/transient";

/** `state` is the daemon's state directory, which is unique to it. */
export function scopeDescription(pod: { namespace: string; name: string }, state: string): string {
  return `Pod ${pod.namespace}/${pod.name} of ${state}`;
}

/** The state directory of the daemon that owns the scope; undefined if systemd no longer has such a unit. */
export async function ownerOfScope(name: string, units: string): Promise<string | undefined> {
  const unit = await readFile(join(units, name), "utf8").catch(() => "");
  const [, owner] = /^Description=Pod .* of (\/.*)$/m.exec(unit) ?? [];
  // systemd.unit(5), specifiers.
  return owner?.replaceAll("%%", "%");
}
