// Freezes and thaws the processes of a cgroup.
// Sources: cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst (cgroup.freeze, cgroup.events).

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { CgroupTree } from "../../native/index.ts";

/** Processes in uninterruptible sleep keep a cgroup from freezing; after this time it is thawed again. */
const freezeMs = 5_000;

export interface Freezer {
  /** The cgroup's directory in the hierarchy that has the freezer. */
  readonly directory: string;
  freeze(signal: AbortSignal): Promise<void>;
  /** Never rejects, even if the cgroup is not frozen or no longer exists. */
  thaw(): Promise<void>;
}

export function freezerOf(tree: CgroupTree, cgroup: string): Freezer {
  const v1 = tree.v1.get("freezer");
  const directory = join(v1 ?? tree.v2, cgroup);
  const [file, frozen, thawed] = v1 === undefined ? ["cgroup.freeze", "1", "0"] : ["freezer.state", "FROZEN", "THAWED"];
  const isFrozen = async () =>
    v1 === undefined
      ? (await readFile(join(directory, "cgroup.events"), "utf8")).includes("frozen 1")
      : (await readFile(join(directory, file), "utf8")).startsWith("FROZEN");
  return {
    directory,
    async freeze(signal) {
      await writeFile(join(directory, file), frozen, { flag: "r+" });
      const until = performance.now() + freezeMs;
      while (!(await isFrozen())) {
        if (performance.now() > until) throw new Error(`its cgroup did not freeze within ${freezeMs} ms`);
        await delay(5, undefined, { signal });
      }
    },
    async thaw() {
      await writeFile(join(directory, file), thawed, { flag: "r+" }).catch(() => undefined);
    },
  };
}
