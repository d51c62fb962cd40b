// The environment of each server, as on its own machine: a directory, a cgroup, and a mount namespace with an
// empty tmpfs at /run, as on a node, and with writable overlays at /etc and /var. The CNI configurations differ only in
// names and subnets.

import { execFile } from "node:child_process";
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { defaultNetwork } from "../../../../cni/default-network.ts";
import { cgroupHierarchies, makeCgroup } from "../../../fixtures/kubernetes/sealed.ts";
import { ready, startService } from "../../../fixtures/kubernetes/service.ts";

export interface Place {
  readonly directory: string;
  /** A tmpfs, which the server sees at /run. */
  readonly run: string;
  readonly cgroup: string;
  readonly logs: string;
  /** Upper directory of the server's /etc. */
  readonly etc: string;
  readonly network: { readonly bridge: string; readonly subnet: string };
  /** Contains a single *.conflist. */
  readonly networkDirectory: string;
  /** Prefix for commands that run there; it ends by executing the command. */
  readonly enter: readonly string[];
}

const holdDeadlineMs = 10_000;

/** `number` selects its bridge and subnet. */
export async function makePlace(base: string, cgroup: string, name: string, number: number): Promise<Place> {
  const directory = join(base, name);
  const networkDirectory = join(directory, "net.d");
  const etc = join(directory, "etc");
  const logs = join(base, "logs", name);
  const run = join(directory, "run");
  const upper = [etc, join(directory, "etc-work"), join(directory, "var"), join(directory, "var-work")];
  for (const path of [...upper, logs, run, networkDirectory]) await mkdir(path, { recursive: true });
  await promisify(execFile)("mount", ["-t", "tmpfs", "-o", "mode=755", "tmpfs", run]);
  const network = { bridge: `peers${number}`, subnet: `10.${210 + number}.0.0/16` };
  const conflist = defaultNetwork({
    podCidrs: [network.subnet],
    bridge: network.bridge,
    dataDir: join(directory, "host-local"),
  });
  await writeFile(join(networkDirectory, "10-bench.conflist"), conflist);
  const own = join(cgroup, name);
  await makeCgroup(join(own, "server"));
  const files = (await cgroupHierarchies()).map((hierarchy) => join(hierarchy, own, "server/cgroup.procs"));
  const holder = await holdMounts(directory, run);
  const entering = `for file in ${files.join(" ")}; do echo $$ >$file; done; exec nsenter --mount=/proc/${holder}/ns/mnt -- "$@"`;
  return { directory, run, cgroup: own, logs, etc, network, networkDirectory, enter: ["sh", "-ec", entering, "sh"] };
}

/** The pid of a process that holds the mount namespace until the end of the run. */
async function holdMounts(directory: string, run: string): Promise<number> {
  const overlay = (name: string) =>
    `mount -t overlay -o lowerdir=/${name},upperdir=${directory}/${name},workdir=${directory}/${name}-work overlay /${name}`;
  const held = join(directory, "held");
  const script = `
    ${overlay("etc")}
    ${overlay("var")}
    mount --bind ${run} /run
    mkdir /run/lock
    mount --make-rshared /
    touch ${held}
    exec sleep infinity`;
  const words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script];
  const service = startService(join(directory, "mounts.log"), words);
  await ready(service, holdDeadlineMs, async () => {
    await access(held);
    return true;
  });
  return service.pid;
}
