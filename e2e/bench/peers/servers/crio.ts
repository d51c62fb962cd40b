// CRI-O with crun and conmon.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "smol-toml";
import { images } from "../images.ts";
import { crioVersion } from "../programs.ts";
import type { Place } from "./place.ts";
import { serviceProcess, versionOf } from "./process.ts";
import type { ServerProcess } from "./server.ts";

interface CrioPrograms {
  readonly crio: string;
  readonly crun: string;
  readonly conmon: string;
  readonly cniPlugins: string;
}

export async function crioProcess(place: Place, programs: CrioPrograms): Promise<ServerProcess> {
  const directory = join(place.directory, "crio");
  await mkdir(directory);
  // CRI-O reads these files only from there.
  const containers = join(place.etc, "containers");
  await mkdir(containers, { recursive: true });
  await writeFile(join(containers, "policy.json"), JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const registry = { prefix: images.host, location: images.address, insecure: true };
  await writeFile(join(containers, "registries.conf"), stringify({ registry: [registry] }));
  const socket = join(directory, "crio.sock");
  const configFile = join(directory, "crio.conf");
  await writeFile(configFile, stringify(configuration(place, directory, socket, programs)));
  const [crun, conmon] = await Promise.all([programs.crun, programs.conmon].map(versionOf));
  return serviceProcess({
    versions: `CRI-O ${crioVersion}, crun ${crun}, conmon ${conmon}`,
    socket,
    helper: "conmon",
    logFile: join(directory, "crio.log"),
    command: [...place.enter, join(programs.crio, "crio"), "--config", configFile, "--config-dir", ""],
    programs: programs.crio,
  });
}

/** All other settings are CRI-O's defaults. */
function configuration(place: Place, directory: string, socket: string, programs: CrioPrograms) {
  const { networkDirectory } = place;
  return {
    crio: {
      root: join(directory, "root"),
      runroot: "/run/containers/storage",
      storage_driver: "overlay",
      api: { listen: socket },
      runtime: {
        cgroup_manager: "cgroupfs",
        conmon_cgroup: "pod",
        default_runtime: "crun",
        pinns_path: join(programs.crio, "pinns"),
        runtimes: {
          crun: {
            runtime_path: programs.crun,
            runtime_root: "/run/crun",
            monitor_path: programs.conmon,
            monitor_cgroup: "pod",
          },
        },
      },
      image: { pause_image: images.pause },
      network: { network_dir: networkDirectory, plugin_dirs: [programs.cniPlugins] },
      // Not used here.
      nri: { enable_nri: false },
    },
  };
}
