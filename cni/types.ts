// The interface between the pod model and the network: attach and detach a pod's network namespace.

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
  /** Addresses of the pod's own interface, the primary one first; as text, without prefix length. */
  readonly ips: readonly string[];
  readonly interfaceName: string;
}

export type NetworkReadiness =
  | { readonly ready: true }
  | { readonly ready: false; readonly reason: string; readonly message: string };

export interface Network {
  /** Whether pods with their own network can be created now, and if not why; answered from memory. */
  readiness(): NetworkReadiness;
  /**
   * Runs ADD for the whole chain; a failed chain is rolled back (DEL) before this rejects. The lease is written before
   * the first plugin runs. The first plugin runs once `netnsMade` resolves, so the namespace can be created meanwhile.
   */
  attach(pod: PodNetwork, signal: AbortSignal, netnsMade?: Promise<unknown>): Promise<Attachment>;
  /**
   * Runs DEL for the whole chain, continuing past plugins that fail, within its own time budget; a no-op without a
   * lease. Resolves after the first attempt even if it failed: the failure stays recorded (see leases), keeps its
   * namespace, and is retried until it succeeds or is given up. Never resolves if shutdown interrupts it.
   */
  detach(sandboxId: string): Promise<void>;
  /**
   * Describes which part of a completed attachment is missing from the host (its lease, namespace or interface);
   * undefined when nothing is. Addresses are not checked: gVisor moves them from the interface into its own stack.
   */
  inspect(sandboxId: string): Promise<string | undefined>;
  /** Leases on disk, including those whose teardown failed; for recovery and Status. */
  leases(): readonly {
    readonly sandboxId: string;
    readonly state: "attached" | "attaching" | "detach-failed" | "given-up";
    readonly lastError?: string;
  }[];
  /** Detaches all leases except these and those already being retried, and runs GC if the plugins support it. */
  collectGarbage(livingSandboxIds: ReadonlySet<string>): Promise<void>;
  /** JSON-serializable details for verbose Status. */
  info(): object;
  /** Stops the directory watch and the timers, and kills running plugins, whose leases stay as they are. */
  close(): Promise<void>;
}
