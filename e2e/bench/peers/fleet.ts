// Idle pods, the same number on each server: created once, used by every section that needs them.

import { type Pod, planPod, removePod, startPod } from "./pods.ts";
import type { Server } from "./servers/server.ts";

export interface Fleet {
  /** Creates or removes pods until each server has `count`. */
  resize(servers: readonly Server[], count: number): Promise<void>;
  of(server: Server): readonly Pod[];
}

const atOnce = 10;

export function createFleet(): Fleet {
  const pods = new Map<Server, Pod[]>();
  const of = (server: Server): Pod[] => {
    const list = pods.get(server) ?? [];
    pods.set(server, list);
    return list;
  };
  return {
    of,
    async resize(servers, count) {
      for (const server of servers) {
        const list = of(server);
        while (list.length < count) {
          const missing = Math.min(atOnce, count - list.length);
          const names = Array.from({ length: missing }, (_, index) => `fleet-${list.length + index}`);
          list.push(...(await Promise.all(names.map(async (name) => startPod(server, await planPod(server, name))))));
        }
        while (list.length > count) {
          const surplus = list.splice(Math.max(count, list.length - atOnce));
          await Promise.all(surplus.map((pod) => removePod(server, pod)));
        }
      }
    },
  };
}
