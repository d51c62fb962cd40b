// Relabels volumes with their container's SELinux label (CRI v1 Mount.selinux_relabel; Kubernetes requests it for
// volumes that only the pod uses).
//
// If the top directory has the label, the whole volume is assumed to have it: the walk labels the top last, files
// created later inherit its type, and files that a kubelet adds have no categories and are readable for every pod. So
// restarted and further containers of the pod need no walk.

import { join } from "node:path";
import { type Host, type MountEntry, messageOf, mountOf, Slots } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";
import type { ContainerLabels } from "./selinux.ts";
import { parseLabel } from "./selinux-label.ts";

/** The host's mounts, read at the first call. */
export type MountTable = () => Promise<readonly MountEntry[]>;

/** Relabels a mount's source (with symlinks resolved) with the container's label. */
export type Relabel = (mount: Mount, source: string, mountTable: MountTable) => Promise<void>;

/** Host paths that are never relabelled, as in other runtimes; `wholeTrees` includes everything below. */
const hostPlaces = [
  ...["/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64"],
  ...["/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib"],
  ...["/var/log", "/var/run"],
];
const wholeTrees = ["/usr", "/boot", "/dev", "/proc", "/sys"];

/**
 * Processes of this type can access files of any label; relabelling would lock other containers out of shared files.
 */
const unconfinedType = "spc_t";
/** More would only compete for the disk. */
const maxWalks = 2;
const maxFiles = 10_000_000n;
const maxSeconds = 600;

/** All relabelling walks of this node. */
export class Relabelling {
  readonly #host: Pick<Host, "hasLabel" | "relabelTree">;
  readonly #walks = new Slots(maxWalks);

  constructor(host: Pick<Host, "hasLabel" | "relabelTree">) {
    this.#host = host;
  }

  for({ process, mount: label }: ContainerLabels): Relabel {
    return async (mount, source, mountTable) => {
      if (!mount.selinuxRelabel || label === undefined || process === undefined) return;
      if (parseLabel(process)?.type === unconfinedType) return;
      refuseHostPlace(mount, source, await mountTable());
      try {
        // Checked first, without waiting for the walks of other volumes.
        if (await this.#host.hasLabel(source, label)) return;
        await this.#walks.run(async () => await this.#host.relabelTree(source, label, maxFiles, maxSeconds));
      } catch (error) {
        const target = mount.containerPath;
        throw podErrors.selinuxRelabel({ source, target, label, reason: messageOf(error) }, error);
      }
    };
  }
}

/**
 * Compares paths, and also file system locations, since another mount may show a directory under another path. The host
 * paths themselves are not accessed: if one is on a file system that hangs, it would block every container creation.
 */
function refuseHostPlace(mount: Mount, source: string, table: readonly MountEntry[]): void {
  const names = [source, locationOf(source, table)];
  const found = hostPlaces.some((place) =>
    [place, locationOf(place, table)].some((known) => {
      if (names.includes(known)) return true;
      const below = known.endsWith("/") ? known : `${known}/`;
      return wholeTrees.includes(place) && names.some((name) => name.startsWith(below));
    }),
  );
  if (found) throw podErrors.selinuxHostPlace({ source, target: mount.containerPath });
}

/** The file system of a path without symlinks, and the path from its root: "8:1:/etc". */
function locationOf(path: string, table: readonly MountEntry[]): string {
  const mount = mountOf(path, table);
  return mount === undefined ? path : `${mount.device}:${join(mount.root, path.slice(mount.at.length))}`;
}
