// Volumes that are to have their container's SELinux label (CRI v1 Mount.selinux_relabel; Kubernetes asks for it where a
// volume is the pod's own).
//
// A top that has the label is taken for a volume that has it: the walk labels the top last, files made later inherit its
// type, and what a kubelet adds has no categories and can be read by every pod. So a container that starts again, or the
// pod's next one, costs no walk.

import { stat } from "node:fs/promises";
import { type Host, messageOf, Slots } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { Mount } from "../types.ts";
import type { ContainerLabels } from "./selinux.ts";
import { parseLabel } from "./selinux-label.ts";

/** Gives a mount's source, its links resolved, the container's label. */
export type Relabel = (mount: Mount, source: string) => Promise<void>;

/** Places of the host that stay as they are, as the field has it; and all that is below /usr and the kernel's own trees. */
const hostPlaces = [
  ...["/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64"],
  ...["/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib"],
  ...["/var/log", "/var/run"],
];
const wholeTrees = ["/usr", "/boot", "/dev", "/proc", "/sys"];

/** Processes of this type get at files of every label, and others would lose what they share with them. */
const unconfinedType = "spc_t";
/** Leaves two threads of the pool for everything else. */
const walksAtOnce = 2;
const maxFiles = 10_000_000n;
const maxSeconds = 600;

/** The walks of this node. */
export class Relabelling {
  readonly #host: Pick<Host, "relabelTree">;
  readonly #walks = new Slots(walksAtOnce);

  constructor(host: Pick<Host, "relabelTree">) {
    this.#host = host;
  }

  for({ process, mount: label }: ContainerLabels): Relabel {
    return async (mount, source) => {
      if (!mount.selinuxRelabel || label === undefined || process === undefined) return;
      if (parseLabel(process)?.type === unconfinedType) return;
      await refuseHostPlace(mount, source);
      try {
        await this.#walks.run(async () => await this.#host.relabelTree(source, label, maxFiles, maxSeconds));
      } catch (error) {
        const target = mount.containerPath;
        throw podErrors.selinuxRelabel({ source, target, label, reason: messageOf(error) }, error);
      }
    };
  }
}

/** By name, and by identity: another mount may show it under another name. */
async function refuseHostPlace(mount: Mount, source: string): Promise<void> {
  const wanted = await identity(source);
  const isHosts = (place: string) => place === source || wholeTrees.some((tree) => source.startsWith(`${tree}/`));
  const found = await Promise.all(
    hostPlaces.map(async (place) => isHosts(place) || (wanted !== undefined && (await identity(place)) === wanted)),
  );
  if (found.includes(true)) throw podErrors.selinuxHostPlace({ source, target: mount.containerPath });
}

async function identity(path: string): Promise<string | undefined> {
  return await stat(path, { bigint: true }).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  );
}
