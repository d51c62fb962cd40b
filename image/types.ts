// The words of images: the store as the pod model and the API edge see it, and what the files of image/ share.

declare const brand: unique symbol;
/** `sha256:` and 64 lower-case hex digits, checked. */
export type Digest = string & { readonly [brand]: "Digest" };
/** The digest of an image's config: what CRI calls the image's id. */
export type ImageId = Digest & { readonly [brand]: "Digest" };

/** What of an image's config (OCI image-spec config.md) a container is made from. */
export interface ImageConfig {
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  /** As the config says it: "", "1000", "www-data:users" … */
  readonly user: string;
  readonly volumes: readonly string[];
  readonly stopSignal: string;
  readonly labels: ReadonlyMap<string, string>;
}

export interface Image {
  readonly id: ImageId;
  /** Normalised names with tag: `docker.io/library/busybox:1`. */
  readonly tags: readonly string[];
  /** `repository@sha256:…` */
  readonly repoDigests: readonly string[];
  /** Compressed layers plus config and manifest, bytes. */
  readonly size: bigint;
  readonly config: ImageConfig;
  readonly pinned: boolean;
  /** Layer roots on disk, top layer first, as overlayfs wants them. */
  readonly layers: readonly string[];
  /** OCI image-spec config.md, "Layer ChainID"; bottom first, one for each layer of the manifest. */
  readonly chainIds: readonly Digest[];
}

/** As a pull request of CRI has it (AuthConfig); "" for what is not given. */
export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  /** base64 of user:password */
  readonly auth: string;
  readonly identityToken: string;
  readonly registryToken: string;
  readonly serverAddress: string;
}

/** A container's writable layer and what lies below it, as overlayfs takes them: absolute paths, top first. */
export interface Snapshot {
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

export interface FileSystemUse {
  /** The store's root, on whose file system everything lies. */
  readonly mountpoint: string;
  readonly usedBytes: bigint;
  readonly inodesUsed: bigint;
  /** Nanoseconds since the epoch. */
  readonly timestamp: bigint;
}

export interface SnapshotWish {
  /** The host's ids of the container's uid 0 and gid 0, when a user namespace maps them: they own its "/". */
  readonly root?: { readonly uid: number; readonly gid: number };
  /** Images that the container mounts: they cannot be removed while the snapshot exists. */
  readonly mounted?: readonly ImageId[];
}

/** Of the image that is being brought in: bytes of its layers. */
export interface Transfer {
  readonly done: number;
  readonly total: number;
}

/** What an archive of images consists of, besides its `oci-layout`. The blobs stay until it is released. */
export interface HeldArchive {
  /** index.json */
  readonly index: Buffer;
  readonly blobs: readonly { readonly digest: Digest; readonly size: number; readonly path: string }[];
  release(): void;
}

export interface ImageStore {
  /** All images, from memory. */
  list(): readonly Image[];
  /** By id, id prefix (unique, 3 digits and more), name with or without tag, or name@digest; from memory. */
  find(reference: string): Image | undefined;
  /** The image's config (OCI image-spec config.md), as whoever made it wrote it; null when it is gone. */
  document(id: ImageId): Promise<unknown>;
  /**
   * Equal pulls share one; durable before it resolves. Rejects with errors of the catalogue (errors.ts), Cancelled when
   * the signal aborts or the store closes; what the kubelet knows by name begins with it (RegistryUnavailable).
   */
  pull(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image>;
  /**
   * Removes every name of the image and the image; content shared with others or used by containers stays until
   * free. Missing is fine; one that a container mounts is FailedPrecondition.
   */
  remove(reference: string): Promise<void>;
  /**
   * Imports an OCI layout or docker-save archive (tar, maybe gzipped or zstd-compressed) or an OCI layout directory: one
   * image after the other, and those before one that fails stay. Rejects with InvalidArgument for what is no archive.
   */
  load(path: string, signal: AbortSignal): Promise<readonly Image[]>;
  /** How far the pull of a reference or the load of a path is; undefined before its layers are known and after it. */
  transfer(subject: string): Promise<Transfer | undefined>;
  /** One more name for an image; that of another image moves. Rejects with NotFound and InvalidArgument. */
  tag(reference: string, name: string): Promise<Image>;
  /** For an archive with the names that they are asked for by, or without one for an id. Throws NotFound. */
  hold(references: readonly string[]): HeldArchive;
  /**
   * Makes a container's writable layer; the image's layers cannot go while it exists. Rejects with NotFound without the
   * image, AlreadyExists for a second one, InvalidArgument for an id that is not 1 to 64 lower-case hex digits.
   */
  prepareSnapshot(containerId: string, image: ImageId, wish?: SnapshotWish): Promise<Snapshot>;
  /** Missing is fine. */
  removeSnapshot(containerId: string): Promise<void>;
  /** Use of a container's writable layer; measured off the event loop, may be some seconds old. Rejects with NotFound. */
  snapshotUse(containerId: string): Promise<FileSystemUse>;
  /** Containers that have a snapshot on disk, for recovery. */
  snapshots(): readonly string[];
  /** Of all images, from memory, and of all writable layers together, as `snapshotUse`. */
  fileSystemUse(): Promise<{ readonly images: FileSystemUse; readonly containers: FileSystemUse }>;
  /** Cancels what is under way, waits until its traces are gone, and lets other processes open the store. */
  close(): Promise<void>;
}
