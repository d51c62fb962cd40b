// Volumes that are to have their container's SELinux label (CRI v1 Mount.selinux_relabel; Kubernetes asks for it where a
// volume is the pod's own).
//
// A top that has the label is taken for a volume that has it: the walk labels the top last, files made later inherit its
// type, and what a kubelet adds has no categories and can be read by every pod. So a container that starts again, or the
// pod's next one, costs no walk.

import { join } from "node:path";
import { type Host, type MountEntry, messageOf, mountOf, Slots } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";
import type { ContainerLabels } from "./selinux.ts";
import { parseLabel } from "./selinux-label.ts";

/** The host's mounts, read when somebody first asks. */
export type MountTable = () => Promise<readonly MountEntry[]>;

/** Gives a mount's source, its links resolved, the container's label. */
export type Relabel = (mount: Mount, source: string, mountTable: MountTable) => Promise<void>;

/** Places of the host that stay as they are, as the field has it; and all that is below /usr and the kernel's own trees. */
const hostPlaces = [
  ...["/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64"],
  ...["/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib"],
  ...["/var/log", "/var/run"],
];
const wholeTrees = ["/usr", "/boot", "/dev", "/proc", "/sys"];

/** Processes of this type get at files of every label, and others would lose what they share with them. */
const unconfinedType = "spc_t";
/** More would only take turns at the disk. */
const walksAtOnce = 2;
const maxFiles = 10_000_000n;
const maxSeconds = 600;

/** The walks of this node. */
export class Relabelling {
  readonly #host: Pick<Host, "hasLabel" | "relabelTree">;
  readonly #walks = new Slots(walksAtOnce);

  constructor(host: Pick<Host, "hasLabel" | "relabelTree">) {
    this.#host = host;
  }

  for({ process, mount: label }: ContainerLabels): Relabel {
    return async (mount, source, mountTable) => {
      if (!mount.selinuxRelabel || label === undefined || process === undefined) return;
      if (parseLabel(process)?.type === unconfinedType) return;
      refuseHostPlace(mount, source, await mountTable());
      try {
        // Without a wait for other volumes' walks.
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
 * By name, and by where it lies, since another mount may show it under another name. The host's places themselves are not
 * looked at: one that is on a file system which hangs would hold up every creation.
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

/** The file system that a path without links is in, and the path from its root: "8:1:/etc". */
function locationOf(path: string, table: readonly MountEntry[]): string {
  const mount = mountOf(path, table);
  return mount === undefined ? path : `${mount.device}:${join(mount.root, path.slice(mount.at.length))}`;
}
