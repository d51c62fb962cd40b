// containerd with runc.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "smol-toml";
import { containerdConfiguration, containerdVersion } from "../../../fixtures/kubernetes/containerd.ts";
import { images, writeHosts } from "../images.ts";
import type { Place } from "./place.ts";
import { serviceProcess, versionOf } from "./process.ts";
import type { ServerProcess } from "./server.ts";

export async function containerdProcess(
  place: Place,
  programs: { readonly containerd: string; readonly runc: string; readonly cniPlugins: string },
): Promise<ServerProcess> {
  const directory = join(place.directory, "containerd");
  const registries = join(directory, "certs.d");
  await mkdir(directory);
  await writeHosts(registries);
  const socket = join(directory, "containerd.sock");
  const configFile = join(directory, "config.toml");
  const configuration = containerdConfiguration({
    directory,
    state: "/run/containerd",
    socket,
    registries,
    networkDirectory: place.networkDirectory,
    pluginDirectory: programs.cniPlugins,
    runc: programs.runc,
    pauseImage: images.pause,
  });
  await writeFile(configFile, stringify(configuration));
  return serviceProcess({
    versions: `containerd ${containerdVersion}, runc ${await versionOf(programs.runc)}`,
    socket,
    helper: "containerd-shim",
    logFile: join(directory, "containerd.log"),
    command: [...place.enter, join(programs.containerd, "containerd"), "--config", configFile],
    // It looks up its shim in the PATH.
    programs: programs.containerd,
  });
}
