// Generates the configuration of a bridge network, for the demo and for nodes whose kubelet passes on the pod CIDR.

import { Address4, Address6 } from "ip-address";
import { cniErrors } from "./errors.ts";

export interface DefaultNetwork {
  /** One subnet, or one per address family; the first family is the primary one. */
  readonly podCidrs: readonly string[];
  /** Name of the bridge, at most 15 characters. */
  readonly bridge: string;
  /** Where host-local keeps its reservations; must survive a reboot. */
  readonly dataDir: string;
}

/**
 * The text of a *.conflist: a bridge as gateway with masquerading, addresses from host-local, host
 * ports through portmap. Throws `badPodCidr`.
 */
export function defaultNetwork({ podCidrs, bridge, dataDir }: DefaultNetwork): string {
  const subnets = checkSubnets(podCidrs);
  const conflist = {
    cniVersion: "1.0.0",
    name: "keelson",
    plugins: [
      {
        type: "bridge",
        bridge,
        isGateway: true,
        ipMasq: true,
        // A pod may reach itself through its service.
        hairpinMode: true,
        ipam: {
          type: "host-local",
          dataDir,
          ranges: subnets.map(({ subnet }) => [{ subnet }]),
          routes: subnets.map(({ everywhere }) => ({ dst: everywhere })),
        },
      },
      { type: "portmap", capabilities: { portMappings: true }, snat: true },
    ],
  };
  return `${JSON.stringify(conflist, null, 2)}\n`;
}

interface Subnet {
  readonly subnet: string;
  /** The family's default route. */
  readonly everywhere: "0.0.0.0/0" | "::/0";
}

function checkSubnets(cidrs: readonly string[]): readonly Subnet[] {
  const subnets = cidrs.map(parseSubnet);
  if (subnets.length === 0) throw cniErrors.badPodCidr({ cidr: '""', reason: "it is empty" });
  if (new Set(subnets.map(({ everywhere }) => everywhere)).size < subnets.length)
    throw cniErrors.badPodCidr({ cidr: cidrs.join(","), reason: "two subnets are of the same address family" });
  return subnets;
}

function parseSubnet(cidr: string): Subnet {
  const fault = (reason: string) => cniErrors.badPodCidr({ cidr: JSON.stringify(cidr), reason });
  if (!cidr.includes("/")) throw fault("it has no prefix length");
  const v4 = Address4.isValid(cidr);
  if (!v4 && !Address6.isValid(cidr)) throw fault("it is not a subnet");
  const address = v4 ? new Address4(cidr) : new Address6(cidr);
  // Network, gateway, one pod, broadcast.
  if (address.subnetMask > (v4 ? 30 : 126)) throw fault("it has no room for a pod");
  const start = address.startAddress().correctForm();
  return { subnet: `${start}/${address.subnetMask}`, everywhere: v4 ? "0.0.0.0/0" : "::/0" };
}
