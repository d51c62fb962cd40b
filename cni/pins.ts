// Keeps a pod's network namespace for plugins whose DEL failed: bridge finds what it created for the pod (its
// masquerade rules) only by looking into the namespace, and the pod's own pin is removed when the pod is stopped.

import { statfsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../native/index.ts";

export interface Pins {
  /** A path that outlives the pod's own, or undefined if there is no namespace at `netns`. */
  hold(sandboxId: string, netns: string): Promise<string | undefined>;
  /** Releases the namespace; a no-op if it is not held. */
  release(sandboxId: string): Promise<void>;
  /** Releases all namespaces held by previous daemons except those of these sandboxes. Called at startup. */
  releaseOthers(sandboxIds: ReadonlySet<string>): Promise<void>;
}

/** `directory` is volatile (below /run): no namespace outlives a reboot. */
export function createPins(directory: string, host: Pick<Host, "pinNamespace" | "unmount">): Pins {
  const pinOf = (sandboxId: string) => join(directory, sandboxId);
  const held = new Set<string>();
  const release = async (sandboxId: string): Promise<void> => {
    await host.unmount(pinOf(sandboxId));
    await rm(pinOf(sandboxId), { force: true });
    held.delete(sandboxId);
  };
  return {
    async hold(sandboxId, netns) {
      const pin = pinOf(sandboxId);
      held.add(sandboxId);
      if (isNamespace(pin)) return pin;
      if (!isNamespace(netns)) return undefined;
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await host.pinNamespace(netns, pin);
      return pin;
    },
    async release(sandboxId) {
      if (held.has(sandboxId)) await release(sandboxId);
    },
    async releaseOthers(sandboxIds) {
      const names = await readdir(directory).catch(() => []);
      for (const name of names) {
        if (sandboxIds.has(name)) held.add(name);
        else await release(name);
      }
    },
  };
}

const nsfsMagic = 0x6e736673;

/** Whether there is a namespace at the path; once a pin is unmounted, its file is an ordinary one. */
export function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === nsfsMagic;
  } catch {
    return false;
  }
}
