// UpdateRuntimeConfig: on a node without a CNI configuration, one is made from the kubelet's pod CIDRs.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { defaultNetwork } from "../../cni/default-network.ts";
import type { Network } from "../../cni/types.ts";
import { writeFile } from "../../native/index.ts";
import type { Handlers, runtimeMethods } from "./methods.ts";

export interface NetworkConfigParts {
  readonly network: Pick<Network, "readiness" | "info">;
  readonly cniConfDir: string;
  /** Where host-local keeps its reservations: durable. */
  readonly dataDir: string;
}

/** Only while no network is ready, and no existing file is overwritten: an administrator's network wins. */
export function networkConfigCall({ network, cniConfDir, dataDir }: NetworkConfigParts) {
  return {
    async UpdateRuntimeConfig({ runtimeConfig }) {
      const cidrs = (runtimeConfig?.networkConfig?.podCidr ?? "").split(",").filter((cidr) => cidr !== "");
      if (cidrs.length === 0 || network.readiness().ready) return {};
      const text = defaultNetwork({ podCidrs: cidrs, bridge: "keelson0", dataDir });
      await mkdir(cniConfDir, { recursive: true });
      await writeFile(join(cniConfDir, "10-keelson.conflist"), text, { isNew: true }).catch(
        (error: NodeJS.ErrnoException) => {
          if (error.code !== "EEXIST") throw error;
        },
      );
      return {};
    },
  } satisfies Handlers<typeof runtimeMethods>;
}
