// keelson.v1.Node: the daemon's own status, for `keelson status`.

import type { Network } from "../../cni/types.ts";
import type { ImageStore } from "../../image/types.ts";
import type { Pods } from "../../pod/types.ts";
import { toLong } from "./encode-fields.ts";
import type { Handlers, keelsonNodeMethods } from "./methods.ts";

export interface NodeParts {
  readonly pods: Pick<Pods, "sandboxes" | "containers" | "leftAlone">;
  readonly images: Pick<ImageStore, "list" | "fileSystemUse">;
  readonly network: Pick<Network, "readiness" | "leases">;
  readonly version: string;
  readonly work: {
    /** The oldest first; limited in number. */
    list(): readonly { readonly kind: string; readonly what: string; readonly milliseconds: number }[];
    readonly total: number;
  };
}

/** Maximum number of lines in each list. */
const shown = 20;

export function keelsonNodeService(parts: NodeParts): Handlers<typeof keelsonNodeMethods> {
  const { pods, images, network, version } = parts;
  return {
    async NodeStatus() {
      const sandboxes = pods.sandboxes({ labels: new Map() });
      const states = Object.groupBy(pods.containers({ labels: new Map() }), ({ phase }) => phase.state);
      const ready = sandboxes.filter(({ state }) => state === "ready").length;
      const readiness = network.readiness();
      const use = await images.fileSystemUse();
      // Leave out this call itself.
      const listed = parts.work.list();
      const work = listed.filter(({ kind, what }) => kind !== "call" || what !== "NodeStatus");
      const leftovers = [...ofRecords(pods), ...ofSandboxes(sandboxes), ...ofNetwork(network)];
      return {
        version,
        upSeconds: toLong(BigInt(Math.round(process.uptime()))),
        residentBytes: toLong(BigInt(process.memoryUsage.rss())),
        networkProblem: readiness.ready ? "" : readiness.message,
        sandboxesReady: ready,
        sandboxesNotReady: sandboxes.length - ready,
        containersCreated: states.created?.length ?? 0,
        containersRunning: states.running?.length ?? 0,
        containersExited: states.exited?.length ?? 0,
        images: images.list().length,
        imageBytes: toLong(use.images.usedBytes),
        containerBytes: toLong(use.containers.usedBytes),
        work: work.slice(0, shown).map(({ kind, what, milliseconds }) => ({
          kind,
          what,
          milliseconds: toLong(BigInt(Math.round(milliseconds))),
        })),
        workTotal: parts.work.total - (listed.length - work.length),
        leftovers: leftovers.slice(0, shown),
        leftoversTotal: leftovers.length,
      };
    },
  };
}

function ofSandboxes(sandboxes: ReturnType<Pods["sandboxes"]>) {
  return sandboxes.flatMap(({ id, config: { metadata }, leftovers }) =>
    leftovers.map((problem) => ({ sandboxId: id, pod: `${metadata.namespace}/${metadata.name}`, problem })),
  );
}

function ofRecords(pods: NodeParts["pods"]) {
  return pods.leftAlone().map(({ id, pod, reason }) => ({
    sandboxId: id,
    pod,
    problem: `left untouched, a record cannot be read: ${reason}`,
  }));
}

/** Network leftovers; their pods may already have been removed. */
function ofNetwork(network: NodeParts["network"]) {
  return network
    .leases()
    .filter(({ state }) => state === "detach-failed" || state === "given-up")
    .map(({ sandboxId, state, lastError }) => ({
      sandboxId,
      pod: "",
      problem: `network teardown failed, ${state === "given-up" ? "given up" : "will be retried"}: ${lastError ?? "no reason given"}`,
    }));
}
