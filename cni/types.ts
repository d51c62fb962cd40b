// What the pod model asks of the network: attach and detach a pod's network namespace.

export type Protocol = "tcp" | "udp" | "sctp";

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: Protocol;
  /** Empty for all addresses. */
  readonly hostIp: string;
}

export interface DnsConfig {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface PodNetwork {
  readonly sandboxId: string;
  readonly netns: string;
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly portMappings: readonly PortMapping[];
  readonly dns: DnsConfig;
  readonly cgroupParent: string;
  readonly annotations: ReadonlyMap<string, string>;
}

export interface Attachment {
  /** Addresses of the pod's own interface, first the primary one; textual, without prefix length. */
  readonly ips: readonly string[];
  readonly interfaceName: string;
}

export type NetworkReadiness =
  | { readonly ready: true }
  | { readonly ready: false; readonly reason: string; readonly message: string };

export interface Network {
  /** Why pods with a network of their own can or cannot be made now; from memory. */
  readiness(): NetworkReadiness;
  /**
   * ADD of the whole chain; a failed chain is taken back (DEL) before it rejects. The lease is on disk before the first
   * plugin runs, and the first plugin runs when `netnsMade` resolves: the namespace may be made meanwhile.
   */
  attach(pod: PodNetwork, signal: AbortSignal, netnsMade?: Promise<unknown>): Promise<Attachment>;
  /**
   * DEL of the whole chain: every plugin it can, with a time budget of its own; without a lease it is a no-op.
   * Resolves after the first try in any case: what failed stays recorded (see leases), keeps its namespace,
   * and is retried until done or given up.
   */
  detach(sandboxId: string): Promise<void>;
  /**
   * What of a finished attachment is not on the host any more (its lease, the namespace, the interface), in words;
   * undefined when all is there. Addresses are the pod's own business: gVisor takes them off the interface for its stack.
   */
  inspect(sandboxId: string): Promise<string | undefined>;
  /** Leases on disk, with those whose teardown failed; for recovery and Status. */
  leases(): readonly {
    readonly sandboxId: string;
    readonly state: "attached" | "attaching" | "detach-failed" | "given-up";
    readonly lastError?: string;
  }[];
  /** Detaches all leases but these and those that are retried anyway, and runs GC where plugins know it. */
  collectGarbage(livingSandboxIds: ReadonlySet<string>): Promise<void>;
  /** A JSON-able picture for verbose Status. */
  info(): object;
  /** Stops watching the directory and timers; kills the plugins that run, whose leases stay as they are. */
  close(): Promise<void>;
}
