// The CNI plugins alone: run one after another, as the specification requires, with nothing in between.

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
  /** ADD for a new network namespace. */
  add(): Promise<Cost>;
  /** DEL, and removes the namespace. */
  remove(): Promise<Cost>;
  /** ADD for `count` namespaces at once, which are removed afterwards. */
  addAtOnce(count: number): Promise<Cost>;
}

/** `number` selects its bridge and subnet. */
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
  /** Runs them from one shell, to exclude Node.js; each plugin gets the last result of `add`. */
  const atOnce = async (
    command: "ADD" | "DEL",
    chain: Conflist["plugins"],
    names: readonly string[],
  ): Promise<Cost> => {
    const { cniVersion, name } = conflist;
    for (const plugin of chain)
      await writeFile(
        join(directory, plugin.type),
        JSON.stringify({ ...plugin, cniVersion, name, prevResult: result }),
      );
    const calls = chain.map(({ type }) => `${plugins}/${type} < ${directory}/${type} > /dev/null`).join(" && ");
    const each = `(CNI_CONTAINERID=$name CNI_NETNS=${directory}/$name; export CNI_CONTAINERID CNI_NETNS; ${calls})`;
    const script = `pids=; for name in ${names.join(" ")}; do ${each} & pids="$pids $!"; done; for pid in $pids; do wait $pid || exit 1; done`;
    const environment = { CNI_COMMAND: command, CNI_IFNAME: "eth0", CNI_PATH: plugins };
    return await runMeasured(floor, ["/bin/sh", "-c", script], { environment });
  };
  const makeNamespace = async (path: string): Promise<void> => {
    await writeFile(path, "");
    await execute("unshare", [`--net=${path}`, "true"]);
  };
  const add = async (): Promise<Cost> => {
    result = undefined;
    await makeNamespace(namespace);
    return await all("ADD", conflist.plugins);
  };
  const remove = async (): Promise<Cost> => {
    const cost = await all("DEL", conflist.plugins.toReversed());
    await execute("umount", ["--lazy", namespace]);
    return cost;
  };
  return {
    add,
    remove,
    async addAtOnce(count) {
      if (result === undefined) {
        await add();
        await remove();
      }
      const names = Array.from({ length: count }, (_, index) => `floor-${index}`);
      for (const name of names) await makeNamespace(join(directory, name));
      const cost = await atOnce("ADD", conflist.plugins, names);
      await atOnce("DEL", conflist.plugins.toReversed(), names);
      for (const name of names) await execute("umount", ["--lazy", join(directory, name)]);
      return cost;
    },
  };
}
