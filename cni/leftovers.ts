// Lists what failed network teardowns may have left on this host, read from the leases on disk, for `keelson check`.

import { join } from "node:path";
import { type FailedLease, readLeases } from "./lease.ts";
import { podAddresses } from "./result.ts";
import { podOf } from "./runtime-config.ts";

export interface NetworkLeftover {
  /** `namespace/name`. */
  readonly pod: string;
  readonly sandboxId: string;
  readonly network: string;
  /** Types of the plugins whose DEL is still owed. */
  readonly plugins: readonly string[];
  readonly interfaceName: string;
  readonly addresses: readonly string[];
  readonly reason: string;
  /** False while a running daemon still retries. */
  readonly givenUp: boolean;
  /** Path of the lease, which the administrator must remove after cleaning up. */
  readonly file: string;
}

/** `stateDir` as in NetworkOptions. Unreadable leases are skipped: the daemon's log names them. */
export async function networkLeftovers(stateDir: string): Promise<readonly NetworkLeftover[]> {
  const directory = join(stateDir, "cni");
  const leases = await readLeases(directory, { damaged: () => undefined, unfinished: () => undefined });
  return [...leases.values()].filter((lease) => "lastError" in lease).map((lease) => describe(lease, directory));
}

function describe(lease: FailedLease, directory: string): NetworkLeftover {
  const { network, target, owed, result, lastError, state } = lease;
  const parsed = result === undefined ? undefined : podAddresses(result, target.interfaceName);
  return {
    pod: podOf(target.args),
    sandboxId: target.containerId,
    network: network.name,
    plugins: owed.flatMap((index) => network.plugins[index]?.type ?? []),
    interfaceName: target.interfaceName,
    addresses: parsed?.kind === "addresses" ? parsed.ips : [],
    reason: lastError,
    givenUp: state === "given-up",
    file: join(directory, `${target.containerId}.json`),
  };
}
