// CNI plugins around Debian's own that fail or hang as a control file says, before or after the real one worked.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startNode, type TestNode } from "../fixtures/node.ts";

const real = "/usr/lib/cni";
/** The default network's chain, and the IPAM plugin that bridge runs. */
const types = ["bridge", "host-local", "portmap"] as const;
export type PluginType = (typeof types)[number];

/** What goes wrong, and how often. */
export interface Whim {
  /** All of them when absent. */
  readonly type?: PluginType;
  /** Both when absent. */
  readonly command?: "ADD" | "DEL";
  readonly failPercent: number;
  /** A hang ends when the control file changes, at the latest after two minutes. */
  readonly hangPercent: number;
}

export interface WildPlugins {
  /** Puts the whim in force for all plugins that start from now on, and ends all hangs of the one before. */
  be(whim: Whim | "calm"): Promise<void>;
}

/** The plugins, in `directory` (made here); they behave until told otherwise. */
async function installWildPlugins(directory: string): Promise<WildPlugins> {
  const control = join(directory, "whim");
  await mkdir(directory, { recursive: true });
  let changes = 0;
  const be = async (whim: Whim | "calm"): Promise<void> => {
    const {
      type = "any",
      command = "any",
      failPercent,
      hangPercent,
    } = whim === "calm" ? { failPercent: 0, hangPercent: 0 } : whim;
    changes += 1;
    // By rename: a plugin never reads half a line.
    await writeFile(`${control}.new`, `${type} ${command} ${failPercent} ${hangPercent} ${changes}\n`);
    await rename(`${control}.new`, control);
  };
  await be("calm");
  for (const type of types) await writeFile(join(directory, type), script(type, control), { mode: 0o755 });
  return { be };
}

/** A node whose plugins these are. */
export async function startWildNode(): Promise<{ readonly node: TestNode; readonly plugins: WildPlugins }> {
  const prepared = Promise.withResolvers<WildPlugins>();
  const node = await startNode({
    pluginDirectories: (directory) => [join(directory, "plugins")],
    prepare: async (directory) => prepared.resolve(await installWildPlugins(join(directory, "plugins"))),
  });
  return { node, plugins: await prepared.promise };
}

/**
 * bridge (1.1.1) takes its link away, then has host-local give the address back, then removes its rules for the
 * addresses that the link had. When the second fails, no later DEL can find the rules: no runtime can mend that.
 */
const obeysDel = `[ "$CNI_COMMAND" != DEL ] || exec ${real}/host-local
`;

function script(type: PluginType, control: string): string {
  return `#!/bin/sh
whim=$(cat ${control})
set -- $whim
die() { od -An -N2 -tu2 /dev/urandom; }
refuse() { echo '{"cniVersion": "1.0.0", "code": 107, "msg": "made to fail"}'; exit 1; }
if [ "$1" != any ] && [ "$1" != ${type} ]; then exec ${real}/${type}; fi
if [ "$2" != any ] && [ "$2" != "$CNI_COMMAND" ]; then exec ${real}/${type}; fi
if [ "$3" = 0 ] && [ "$4" = 0 ]; then exec ${real}/${type}; fi
${type === "host-local" ? obeysDel : ""}fate=$(( $(die) % 100 ))
coin=$(( $(die) % 2 ))
if [ $fate -lt "$3" ]; then
  [ $coin = 0 ] || ${real}/${type} >/dev/null
  refuse
fi
[ $fate -lt $(( $3 + $4 )) ] || exec ${real}/${type}
# Before its work, or with it done; in the second case it fails after all when plugins are to fail at all.
[ $coin = 0 ] || result=$(${real}/${type}) || { echo "$result"; exit 1; }
rounds=0
while [ $rounds -lt 600 ] && [ "$(cat ${control})" = "$whim" ]; do sleep 0.2; rounds=$((rounds + 1)); done
[ $coin = 1 ] || exec ${real}/${type}
[ "$3" = 0 ] || refuse
echo "$result"
`;
}
