// System calls that Node lacks, from the addon (native/addon/). All of them run off the event loop.

export interface DiskUsage {
  /** Allocated bytes (512-byte blocks × 512), hard links counted once. */
  readonly bytes: bigint;
  readonly inodes: bigint;
}

/** The contract of the addon; implemented in this file. */
export interface Host {
  /** Flushes the file system that holds `path` (syncfs(2)). */
  syncFileSystem(path: string): Promise<void>;
  /** Reads many small files in one go; a file that is missing or unreadable is null. For cgroup files. */
  readFiles(paths: readonly string[], limitBytes: number): Promise<(Buffer | null)[]>;
  /** Walks a tree without following links; bounded by `maxInodes` (rejects past it). */
  diskUsage(path: string): Promise<DiskUsage>;
  /** Removes a tree that hostile content may stand in, without following links; missing is fine. */
  removeTree(path: string): Promise<void>;
  /**
   * Reads regular files out of a container's root (layers as overlayfs would show them, top first),
   * resolved inside the root (openat2 RESOLVE_IN_ROOT) on a detached mount. Missing, not regular or
   * larger than `limitBytes`: the answer says so.
   */
  readFromLayers(layers: readonly string[], paths: readonly string[], limitBytes: number): Promise<LayerFile[]>;
  /** Unmounts lazily (MNT_DETACH | UMOUNT_NOFOLLOW); not mounted or missing is fine. */
  unmount(path: string): Promise<void>;
  /** Compiles an OCI `linux.seccomp` object into a BPF program (struct sock_filter[]) with libseccomp. */
  compileSeccomp(profileJson: string): Promise<Buffer>;
  /** A sealed in-memory copy of an executable (memfd, F_SEAL_WRITE…), as a descriptor to run from. */
  sealedCopy(path: string): Promise<number>;
  /** statfs-free truth about the host for Status and `keelson check`. */
  hostCapabilities(): bigint;
}

export type LayerFile =
  | { readonly kind: "file"; readonly content: Buffer }
  | { readonly kind: "missing" }
  | { readonly kind: "not-regular" }
  | { readonly kind: "too-large"; readonly size: bigint };
