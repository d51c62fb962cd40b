// The types of images: the store as the pod model and the API edge see it, and the types that files of image/ share.

declare const brand: unique symbol;
/** `sha256:` and 64 lower-case hex digits, checked. */
export type Digest = string & { readonly [brand]: "Digest" };
/** The digest of an image's config, which CRI uses as the image's id. */
export type ImageId = Digest & { readonly [brand]: "Digest" };

/** The parts of an image's config (OCI image-spec config.md) that apply to a container. */
export interface ImageConfig {
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  /** As in the config: "", "1000", "www-data:users" … */
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

/** As in a CRI pull request (AuthConfig); "" for absent fields. */
export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  /** base64 of user:password */
  readonly auth: string;
  readonly identityToken: string;
  readonly registryToken: string;
  readonly serverAddress: string;
}

/** A container's writable layer and the layers below it, for overlayfs: absolute paths, top first. */
export interface Snapshot {
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
}

export interface FileSystemUse {
  /** The store's root, whose file system contains everything. */
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

/** Progress of the image that is being imported: bytes of its layers. */
export interface Transfer {
  readonly done: number;
  readonly total: number;
}

/** The content of an archive of images, except its `oci-layout`. The blobs are kept until it is released. */
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
  /** The image's config (OCI image-spec config.md), unmodified; null when it cannot be read. */
  document(id: ImageId): Promise<unknown>;
  /**
   * Equal concurrent pulls share the work; the image is durable when it resolves. Rejects with errors of the catalogue
   * (errors.ts), Cancelled when the signal aborts or the store closes; an error that the kubelet recognises by name
   * starts with that name (RegistryUnavailable).
   */
  pull(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image>;
  /**
   * Removes the image and all its names; content that is shared with others or used by containers stays until it is
   * free. A missing image is fine; rejects with FailedPrecondition for one that a container mounts.
   */
  remove(reference: string): Promise<void>;
  /**
   * Imports an OCI layout or docker-save archive (tar, optionally gzip- or zstd-compressed) or an OCI layout directory,
   * one image after the other; images before one that fails are kept. Rejects with InvalidArgument for what is not an
   * archive.
   */
  load(path: string, signal: AbortSignal): Promise<readonly Image[]>;
  /**
   * Progress of the pull of a reference or the load of a path; undefined before its layers are known and afterwards.
   */
  transfer(subject: string): Promise<Transfer | undefined>;
  /** Adds a name to an image; a name of another image moves to it. Rejects with NotFound and InvalidArgument. */
  tag(reference: string, name: string): Promise<Image>;
  /** Holds images for an archive, with the names in `references`; an id adds no name. Throws NotFound. */
  hold(references: readonly string[]): HeldArchive;
  /**
   * Creates a container's writable layer; the image's layers are not removed while it exists. Rejects with NotFound if
   * the image is missing, AlreadyExists for a second one, InvalidArgument for an id that is not 1 to 64 lower-case hex
   * digits.
   */
  prepareSnapshot(containerId: string, image: ImageId, wish?: SnapshotWish): Promise<Snapshot>;
  /** A missing snapshot is fine. */
  removeSnapshot(containerId: string): Promise<void>;
  /** Use of a container's writable layer, measured off the event loop; may be seconds old. Rejects with NotFound. */
  snapshotUse(containerId: string): Promise<FileSystemUse>;
  /** Containers that have a snapshot on disk, for recovery. */
  snapshots(): readonly string[];
  /** Use of all images, from memory, and the sum for all writable layers, as in `snapshotUse`. */
  fileSystemUse(): Promise<{ readonly images: FileSystemUse; readonly containers: FileSystemUse }>;
  /** Cancels work in progress, waits until it is cleaned up, and lets other processes open the store. */
  close(): Promise<void>;
}
