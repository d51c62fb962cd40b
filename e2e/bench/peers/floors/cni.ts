// The CNI plugins alone: started one after another, as the specification has it, with nothing between them.

import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { defaultNetwork } from "../../../../cni/default-network.ts";
import { type Cost, runMeasured } from "./floor.ts";

interface Conflist {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly { readonly type: string }[];
}

export interface CniFloor {
  /** Gives a new network namespace its addresses. */
  add(): Promise<Cost>;
  /** Takes them back, and the namespace with them. */
  remove(): Promise<Cost>;
}

/** `number` tells its bridge and subnet from others'. */
export async function createCniFloor(
  directory: string,
  floor: string,
  plugins: string,
  number: number,
): Promise<CniFloor> {
  await mkdir(directory);
  const execute = promisify(execFile);
  const dataDir = join(directory, "host-local");
  const network = { podCidrs: [`10.${200 + number}.0.0/16`], bridge: `peersfloor${number}`, dataDir };
  const conflist: Conflist = JSON.parse(defaultNetwork(network));
  const namespace = join(directory, "netns");
  await writeFile(namespace, "");
  let result: object | undefined;

  const call = async (command: "ADD" | "DEL", plugin: Conflist["plugins"][number]): Promise<Cost> => {
    const { cniVersion, name } = conflist;
    const environment = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "floor",
      CNI_NETNS: namespace,
      CNI_IFNAME: "eth0",
      CNI_PATH: plugins,
    };
    const input = JSON.stringify({ ...plugin, cniVersion, name, ...(result && { prevResult: result }) });
    const { output, ...cost } = await runMeasured(floor, [join(plugins, plugin.type)], { input, environment });
    if (command === "ADD") result = JSON.parse(output);
    return cost;
  };
  const all = async (command: "ADD" | "DEL", chain: Conflist["plugins"]): Promise<Cost> => {
    const sum = { wall: 0, cpu: 0 };
    for (const plugin of chain) {
      const { wall, cpu } = await call(command, plugin);
      sum.wall += wall;
      sum.cpu += cpu;
    }
    return sum;
  };
  return {
    async add() {
      result = undefined;
      await execute("unshare", [`--net=${namespace}`, "true"]);
      return await all("ADD", conflist.plugins);
    },
    async remove() {
      const cost = await all("DEL", conflist.plugins.toReversed());
      await execute("umount", ["--lazy", namespace]);
      return cost;
    },
  };
}
