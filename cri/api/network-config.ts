// UpdateRuntimeConfig: where the configuration asks for it, a node's network is made from the kubelet's pod CIDRs.
//
// Kubelets pass those on unasked, mostly before the cluster's own network has been installed: a file that was made then
// must not take its place.

import { mkdir, readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { isConfigFile } from "../../cni/config.ts";
import { defaultNetwork } from "../../cni/default-network.ts";
import { isErrno, writeFile } from "../../native/index.ts";
import type { Handlers, runtimeMethods } from "./methods.ts";

export interface NetworkConfigParts {
  readonly cniFromPodCidr: boolean;
  readonly cniConfDir: string;
  /** Where host-local keeps its reservations: durable. */
  readonly dataDir: string;
}

/** Behind the names that others choose: the first file counts. */
const fileName = "99-keelson.conflist";
/** What it was once called, before many a cluster's own. */
const olderName = "10-keelson.conflist";
const bridge = "keelson0";

/** Only where there is no other file, and none is overwritten: an administrator's network wins, and a cluster's. */
export function networkConfigCall({ cniFromPodCidr, cniConfDir, dataDir }: NetworkConfigParts) {
  return {
    async UpdateRuntimeConfig({ runtimeConfig }) {
      const cidrs = (runtimeConfig?.networkConfig?.podCidr ?? "").split(",").filter((cidr) => cidr !== "");
      if (!cniFromPodCidr || cidrs.length === 0) return {};
      const text = defaultNetwork({ podCidrs: cidrs, bridge, dataDir });
      await mkdir(cniConfDir, { recursive: true });
      const files = (await readdir(cniConfDir)).filter(isConfigFile);
      const [path, older] = [join(cniConfDir, fileName), join(cniConfDir, olderName)];
      if (files.length === 0) {
        await writeFile(path, text, { isNew: true }).catch((error: unknown) => {
          if (!isErrno(error, "EEXIST")) throw error;
        });
      } else if (files.includes(olderName) && !files.includes(fileName)) {
        if (isMade(await readFile(older, "utf8"), dataDir)) await rename(older, path);
      }
      return {};
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

/** Whether a Keelson made the text, for whatever subnets, and nobody has changed it. */
function isMade(text: string, dataDir: string): boolean {
  const podCidrs = [...text.matchAll(/"subnet": "([^"]+)"/g)].map(([, subnet = ""]) => subnet);
  try {
    return defaultNetwork({ podCidrs, bridge, dataDir }) === text;
  } catch {
    return false;
  }
}
