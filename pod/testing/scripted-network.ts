// An in-memory network: assigns an address to each pod, keeps leases, and outlives the daemon.

import type { Attachment, Network, NetworkReadiness, PodNetwork } from "../../cni/types.ts";
import type { Script } from "./script.ts";

type Lease = ReturnType<Network["leases"]>[number];

export class ScriptedNetwork implements Network {
  /** While set, DELs fail and leave a lease with this error. */
  failing: string | undefined;
  status: NetworkReadiness = { ready: true };
  /** The sandbox ids that the last garbage collection had to spare. */
  spared: ReadonlySet<string> = new Set();
  readonly #script: Script;
  readonly #leases = new Map<string, Lease>();
  readonly #addresses = new Map<string, string>();
  #given = 0;

  constructor(script: Script) {
    this.#script = script;
  }

  /** Pods that have an interface, with its address. */
  get attached(): ReadonlyMap<string, string> {
    return this.#addresses;
  }

  /** Simulates a pod attached by a previous daemon. */
  hasAttached(sandboxId: string, address: string): void {
    this.#addresses.set(sandboxId, address);
    this.#leases.set(sandboxId, { sandboxId, state: "attached" });
  }

  /** Deletes the pod's interface. */
  loses(sandboxId: string): void {
    this.#addresses.delete(sandboxId);
  }

  /** Completes the DELs that failed before. */
  recovers(): void {
    this.failing = undefined;
    for (const { sandboxId, state } of this.leases()) if (state === "detach-failed") this.#remove(sandboxId);
  }

  /** Gives up the DELs that failed before. */
  givesUp(): void {
    for (const lease of this.leases()) {
      if (lease.state === "detach-failed") this.#leases.set(lease.sandboxId, { ...lease, state: "given-up" });
    }
  }

  readiness(): NetworkReadiness {
    return this.status;
  }

  async attach(pod: PodNetwork, signal: AbortSignal, netnsMade?: Promise<unknown>): Promise<Attachment> {
    const { sandboxId } = pod;
    this.#leases.set(sandboxId, { sandboxId, state: "attaching" });
    try {
      await netnsMade;
    } catch (error) {
      this.#leases.delete(sandboxId);
      throw error;
    }
    const cancelled = () => (signal.reason instanceof Error ? signal.reason : new Error("aborted"));
    const bounds = { timeoutMs: 600_000, signal, late: () => new Error("ADD hangs"), cancelled };
    return await this.#script.call(
      "network attach",
      sandboxId,
      () => {
        this.#given += 1;
        const address = `10.88.0.${this.#given}`;
        this.#addresses.set(sandboxId, address);
        this.#leases.set(sandboxId, { sandboxId, state: "attached" });
        return { ips: [address], interfaceName: "eth0" };
      },
      bounds,
    );
  }

  async detach(sandboxId: string): Promise<void> {
    await this.#script.call("network detach", sandboxId, () => {
      const lease = this.#leases.get(sandboxId);
      if (lease === undefined || lease.state === "given-up") return;
      if (this.failing === undefined) this.#remove(sandboxId);
      else this.#leases.set(sandboxId, { sandboxId, state: "detach-failed", lastError: this.failing });
    });
  }

  async inspect(sandboxId: string): Promise<string | undefined> {
    return await this.#script.call("network inspect", sandboxId, () =>
      this.#addresses.has(sandboxId) ? undefined : "its interface eth0 does not exist",
    );
  }

  leases(): readonly Lease[] {
    return [...this.#leases.values()];
  }

  async collectGarbage(livingSandboxIds: ReadonlySet<string>): Promise<void> {
    await this.#script.call("network collectGarbage", "", () => {
      this.spared = livingSandboxIds;
    });
  }

  info(): object {
    return {};
  }

  async close(): Promise<void> {}

  #remove(sandboxId: string): void {
    this.#leases.delete(sandboxId);
    this.#addresses.delete(sandboxId);
  }
}
