// System calls that Node.js lacks, from the addon (native/addon/). They run on libuv's thread pool, or on their own
// threads if their duration depends on the size of a tree or disk.

import { createRequire } from "node:module";
import { firstLine } from "./errors.ts";
import { fromAddon, hostErrors } from "./host-errors.ts";
import { type NativePaths, nativePaths } from "./paths.ts";

export interface DiskUsage {
  /** Allocated bytes (512-byte blocks × 512), hard links counted once. */
  readonly bytes: bigint;
  /** The root included. */
  readonly inodes: bigint;
}

export interface OpenDescriptors {
  readonly all: bigint;
  readonly sockets: bigint;
}

export type LayerFile =
  | { readonly kind: "file"; readonly content: Buffer }
  | { readonly kind: "missing" }
  | { readonly kind: "not-regular" }
  | { readonly kind: "too-large"; readonly size: bigint };

/** Modes are subject to the umask unless noted otherwise. */
export type FileStep =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number; readonly mayExist?: boolean }
  /** With the mode of the directory `like`, and its owner's ids added to these. */
  | {
      readonly kind: "directory like";
      readonly path: string;
      readonly like: string;
      readonly uid: number;
      readonly gid: number;
    }
  /** Created, or truncated and rewritten. */
  | {
      readonly kind: "file";
      readonly path: string;
      readonly content: string | Uint8Array;
      /** 0666 when absent. */
      readonly mode?: number;
      /** Ignores the umask, and also applies to an existing file. */
      readonly isModeExact?: boolean;
      /** The path must not exist (EEXIST). */
      readonly isNew?: boolean;
      /** Appends to an existing file (ENOENT). */
      readonly isAdded?: boolean;
      /** Flushed to disk before the next step. */
      readonly isFlushed?: boolean;
      /** 0 or absent: unchanged. */
      readonly uid?: number;
      readonly gid?: number;
    }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  /** Removes a file; it may be missing. */
  | { readonly kind: "remove"; readonly path: string }
  /** Makes the content of a file, or the entries of a directory, survive a power cut. */
  | { readonly kind: "flush"; readonly path: string };

/**
 * What a program gets as a descriptor: /dev/null, a file that contains its input, a pipe that it reads or writes, a
 * message socket (SOCK_SEQPACKET), or the number of one of our descriptors, which stays open until it has started.
 */
export type ProgramDescriptor = "null" | "input" | "reads" | "writes" | "socket" | `${number}`;

export interface StartedProgram {
  readonly pid: number;
  /** Our ends, by descriptor; -1 where there is none. The caller must close them. */
  readonly pipes: readonly number[];
}

export interface ReapedProgram {
  readonly pid: number;
  /** -1 if it was killed by a signal. */
  readonly code: number;
  /** 0 if it was not; with code -1, the process was reaped elsewhere. */
  readonly signal: number;
}

/** readFigures returns this for a missing number. */
export const noFigure = 2n ** 64n - 1n;

/** Methods reject with a HostError (host-errors.ts): which step failed, and the kernel's errno. */
export interface Host {
  /**
   * Flushes the file system of an open file (syncfs(2)). The kernel reports a write error once for each descriptor, and
   * only if it occurred after that was opened: one opened just for a flush does not see errors of earlier flushes.
   */
  syncFileSystem(descriptor: number): Promise<void>;
  /**
   * Reads many small files in one call, for cgroup and procfs files. The result is null for a file that is missing,
   * unreadable, not regular, or longer than `limitBytes` (at most 2^30).
   */
  readFiles(paths: readonly string[], limitBytes: number): Promise<(Buffer | null)[]>;
  /**
   * Reads numbers from the same files of many cgroups: for each cgroup, each figure. "FILE" is a file's only number,
   * "FILE KEY" a number in a flat keyed file, "FILE KEY SUBKEY" one in a nested keyed file (cgroup-v2.rst, Interface
   * Files); FILE is a path with "*" in place of the cgroup's. A decimal point is dropped: 1.50 becomes 150. The result is
   * `noFigure` for a value that is missing, unreadable or not a number ("max"). List the figures of one file together, so
   * that it is read once.
   */
  readFigures(cgroups: readonly string[], figures: readonly string[]): Promise<BigUint64Array>;
  /**
   * The same for cgroups that will be read again: their files stay open until `forgetFigures` closes them, up to a
   * quarter of this process's descriptor limit.
   */
  readFiguresAgain(cgroups: readonly string[], figures: readonly string[]): Promise<BigUint64Array>;
  forgetFigures(cgroups: readonly string[]): Promise<void>;
  /**
   * Counts the open descriptors of processes, given directories such as `/proc/PID/fd`; a missing one counts as 0.
   * Rejects with InvalidArgument past `limit` (at most 2^30) descriptors.
   */
  countDescriptors(directories: readonly string[], limit: number): Promise<OpenDescriptors>;
  /**
   * Opens the regular file `name` below `directory`, whose content is untrusted, without following links or leaving it
   * (openat2 RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). Returns a close-on-exec descriptor, which the caller must close, or
   * null if there is no such file.
   */
  openInside(directory: string, name: string): Promise<number | null>;
  /**
   * Measures a tree of any depth (or one file) without following links or entering other mounts. Stops counting at
   * `maxInodes` (default 10 million), and skips what cannot be read. Rejects with NotFound if the path does not exist.
   */
  diskUsage(path: string, maxInodes?: bigint): Promise<DiskUsage>;
  /**
   * Removes a file or a tree of any depth, without following links; its content may be hostile. It may be missing.
   * Rejects (errno EBUSY) if it is or contains a mount point, whose content is kept.
   */
  removeTree(path: string): Promise<void>;
  /**
   * Whether a file or directory, whose path must not contain a link, has this SELinux label. Rejects (errno ENOENT) if it
   * does not exist.
   */
  hasLabel(path: string, label: string): Promise<boolean>;
  /**
   * Sets the SELinux label of a tree (or one file) and returns how many files had another one. Does not follow links or
   * enter other mounts; if the top has the label, the whole tree is assumed to have it; file systems without labels are
   * skipped. Rejects with InvalidArgument past `maxInodes`, with DeadlineExceeded past `maxSeconds`.
   */
  relabelTree(path: string, label: string, maxInodes: bigint, maxSeconds: number): Promise<bigint>;
  /**
   * Creates in the empty directory `into` a layer to put on top of `layers` (top first). It restores owner, mode and
   * attributes of directories that an upper layer has without their own entry from the layers below. Returns the
   * number of directories, 0 if none are needed. Rejects with InvalidArgument if there is too much to scan.
   */
  coverUnnamed(layers: readonly string[], into: string): Promise<bigint>;
  /**
   * Reads regular files from a container's root (layers merged as by overlayfs, top first), with paths resolved inside
   * the root (openat2 RESOLVE_IN_ROOT) on a detached mount; nothing but a regular file is opened. One result for each
   * path; a file longer than `limitBytes` (at most 2^30) is `too-large`.
   */
  readFromLayers(layers: readonly string[], paths: readonly string[], limitBytes: number): Promise<LayerFile[]>;
  /**
   * Lists what a container has removed from its image's layers (top first), based on its overlay's upper directory,
   * which must not be written to meanwhile: paths below the root, without leading slash. Rejects with InvalidArgument
   * past `maxPaths` (default 1 million), or 128 MiB of them.
   */
  removedPaths(upper: string, layers: readonly string[], maxPaths?: bigint): Promise<Buffer[]>;
  /** Unmounts lazily (MNT_DETACH | UMOUNT_NOFOLLOW); a no-op if the path is not mounted or missing. */
  unmount(path: string): Promise<void>;
  /**
   * Compiles an OCI `linux.seccomp` object (JSON) into a BPF program (struct sock_filter[], at most 4096)
   * with libseccomp. System calls that libseccomp does not know get the default action. Rejects with InvalidArgument if
   * a BPF program cannot express the profile (SCMP_ACT_NOTIFY, flags other than TSYNC, LOG and SPEC_ALLOW).
   */
  compileSeccomp(profileJson: string): Promise<Buffer>;
  /**
   * Creates a sealed in-memory copy of an executable, which nobody can modify. Returns a close-on-exec descriptor,
   * which the caller must close; run it as `/proc/self/fd/<fd>`.
   */
  sealedCopy(path: string): Promise<number>;
  /**
   * Creates a nearly empty mount namespace, from which containers start (native/common/empty_mounts.h). Returns a
   * close-on-exec descriptor, which the caller must close.
   */
  emptyMountNamespace(): Promise<number>;
  /**
   * Takes an exclusive flock(2) on the file (created if missing, mode 0600). Returns the descriptor, which holds the
   * lock until it is closed or the process dies; null if another process holds the lock.
   */
  tryLock(path: string): Promise<number | null>;
  /** Sends "KEY=value" lines to a service manager at the address in $NOTIFY_SOCKET (sd_notify(3)). */
  notifyManager(path: string, lines: string): Promise<void>;
  /**
   * Makes an inherited descriptor close-on-exec and returns the path that it listens on. Rejects with InvalidArgument
   * unless it is a listening Unix stream socket with a path.
   */
  adoptListener(descriptor: number): Promise<string>;
  /**
   * Keeps the network namespace at `namespace` alive by a bind mount on the file `pin` (created if missing);
   * `unmount` releases it. Rejects with NotFound if there is no network namespace at the path.
   */
  pinNamespace(namespace: string, pin: string): Promise<void>;
  /**
   * Resolves the links in a path, in its own process: on a file system that does not respond it never settles, but
   * blocks no shared thread and does not keep this process from exiting. Rejects (errno ENOENT) if the path is missing.
   */
  resolvePath(path: string): Promise<string>;
  /** The same, but creates a missing path as a directory, with its parents. */
  presentPath(path: string): Promise<string>;
  /** Whether a network namespace has an interface of that name. Rejects with NotFound if there is no such namespace. */
  hasInterface(namespace: string, interfaceName: string): Promise<boolean>;
  /** proc(5) net/dev of a network namespace, at most 64 KiB. Rejects with NotFound if the namespace does not exist. */
  readInterfaces(namespace: string): Promise<string>;
  /**
   * Runs these steps in order in one thread pool task. Rejects at the first that fails; the earlier ones are not
   * undone. For native/files/change-files.ts, which converts the errors to Node's.
   */
  changeFiles(steps: readonly FileStep[]): Promise<void>;
  /**
   * Starts a program in its own session, without copying this process as child_process does (which blocks the event
   * loop for 2 to 7 ms). `file` without a slash is searched for in our PATH; `words` starts with argv[0];
   * `environment` contains `NAME=value`; `descriptors` are its 0, 1, 2 and so on. Resolves after the exec. The caller
   * must reap the program.
   */
  startProgram(
    file: string,
    words: readonly string[],
    environment: readonly string[],
    directory: string,
    descriptors: readonly ProgramDescriptor[],
    input: string,
  ): Promise<StartedProgram>;
  /**
   * Requests the monitor of a pod from a fork server (PROTOCOL.md, "Start") without blocking. Returns the close-on-exec
   * read end of a pipe with the monitor's start report, which the caller must close. Throws if the server has exited
   * (EPIPE, ECONNRESET) or its queue is full (EAGAIN).
   */
  askForFork(socket: number, podDirectory: string): number;
  /** The id of an exited but unreaped child of this process, whoever started it; 0 if there is none. */
  endedChild(): number;
  /** Reaps those of these children that have exited. */
  reapPrograms(pids: readonly number[]): readonly ReapedProgram[];
  /** The capability bounding set of this process: bit n is capability n in capabilities(7). */
  hostCapabilities(): bigint;
  /** Lets SIGUSR1 reach its listeners: with --disable-sigusr1 Node.js keeps it blocked. Call it on the main thread. */
  unblockUsr1(): void;
  /** Limits how much freed memory the C library keeps (mallopt(3)); the default once the addon is loaded. */
  limitKeptMemory(): void;
  /** Makes it keep freed 64 KiB buffers for reuse, until `limitKeptMemory`. */
  reuseFreedBuffers(): void;
  /** Returns free memory in the C heap to the kernel (malloc_trim(3)). */
  trimHeap(): void;
  /** Drops the pages of this program's code and constants (madvise(2), MADV_DONTNEED); page faults bring them back. */
  letGoOfProgram(): void;
  /**
   * Exits at once. process.exit joins the thread pool's threads, and one that waits for an unresponsive file system
   * never returns.
   */
  exitNow(code: number): never;
}

let own: Host | undefined;

/** The addon of this process, loaded once, for use inside native/ only. */
export function ownHost(): Host {
  own ??= loadHost();
  return own;
}

/** Loads the addon. Throws `addonNotLoaded` if it is not built, or not for this machine. */
export function loadHost(paths: NativePaths = nativePaths()): Host {
  const addon = loadAddon(paths.addon);
  return {
    syncFileSystem: (descriptor) => withHostError(() => addon.syncFileSystem(descriptor)),
    readFiles: (files, limitBytes) => withHostError(() => addon.readFiles(files, limitBytes)),
    readFigures: (cgroups, figures) => withHostError(() => addon.readFigures(cgroups, figures)),
    readFiguresAgain: (cgroups, figures) => withHostError(() => addon.readFiguresAgain(cgroups, figures)),
    forgetFigures: (cgroups) => withHostError(() => addon.forgetFigures(cgroups)),
    countDescriptors: (directories, limit) => withHostError(() => addon.countDescriptors(directories, limit)),
    openInside: (directory, name) => withHostError(() => addon.openInside(directory, name)),
    diskUsage: (path, maxInodes = 10_000_000n) => withHostError(() => addon.diskUsage(path, maxInodes)),
    removeTree: (path) => withHostError(() => addon.removeTree(path)),
    hasLabel: (path, label) => withHostError(() => addon.hasLabel(path, label)),
    coverUnnamed: (layers, into) => withHostError(() => addon.coverUnnamed(layers, into)),
    relabelTree: (path, label, maxInodes, maxSeconds) =>
      withHostError(() => addon.relabelTree(path, label, maxInodes, maxSeconds)),
    readFromLayers: (layers, files, limitBytes) => withHostError(() => addon.readFromLayers(layers, files, limitBytes)),
    removedPaths: (upper, layers, maxPaths = 1_000_000n) =>
      withHostError(() => addon.removedPaths(upper, layers, maxPaths)),
    resolvePath: (path) => withHostError(() => addon.resolvePath(path)),
    presentPath: (path) => withHostError(() => addon.presentPath(path)),
    unmount: (path) => withHostError(() => addon.unmount(path)),
    compileSeccomp: (profileJson) => withHostError(() => addon.compileSeccomp(profileJson)),
    sealedCopy: (path) => withHostError(() => addon.sealedCopy(path)),
    emptyMountNamespace: () => withHostError(() => addon.emptyMountNamespace()),
    tryLock: (path) => withHostError(() => addon.tryLock(path)),
    notifyManager: (path, lines) => withHostError(() => addon.notifyManager(path, lines)),
    adoptListener: (descriptor) => withHostError(() => addon.adoptListener(descriptor)),
    pinNamespace: (namespace, pin) => withHostError(() => addon.pinNamespace(namespace, pin)),
    hasInterface: (namespace, interfaceName) => withHostError(() => addon.hasInterface(namespace, interfaceName)),
    readInterfaces: (namespace) => withHostError(() => addon.readInterfaces(namespace)),
    changeFiles: (steps) => withHostError(() => addon.changeFiles(steps)),
    startProgram: (...start) => withHostError(() => addon.startProgram(...start)),
    askForFork: (socket, podDirectory) => {
      try {
        return addon.askForFork(socket, podDirectory);
      } catch (error) {
        throw fromAddon(error);
      }
    },
    endedChild: () => addon.endedChild(),
    reapPrograms: (pids) => addon.reapPrograms(pids),
    hostCapabilities: () => addon.hostCapabilities(),
    unblockUsr1: () => addon.unblockUsr1(),
    limitKeptMemory: () => addon.limitKeptMemory(),
    reuseFreedBuffers: () => addon.reuseFreedBuffers(),
    trimHeap: () => addon.trimHeap(),
    letGoOfProgram: () => addon.letGoOfProgram(),
    exitNow: (code) => addon.exitNow(code),
  };
}

function loadAddon(path: string): Host {
  let addon: unknown;
  try {
    addon = createRequire(import.meta.url)(path);
  } catch (error) {
    // For a missing file Node.js lists the requiring modules on further lines.
    throw hostErrors.addonNotLoaded({ path, reason: firstLine(error) }, error);
  }
  if (!isHost(addon)) throw hostErrors.addonNotLoaded({ path, reason: "it belongs to another version of Keelson" });
  return addon;
}

const methods: Readonly<Record<keyof Host, true>> = {
  syncFileSystem: true,
  readFiles: true,
  readFigures: true,
  readFiguresAgain: true,
  forgetFigures: true,
  countDescriptors: true,
  openInside: true,
  diskUsage: true,
  removeTree: true,
  hasLabel: true,
  relabelTree: true,
  coverUnnamed: true,
  readFromLayers: true,
  removedPaths: true,
  resolvePath: true,
  presentPath: true,
  unmount: true,
  compileSeccomp: true,
  sealedCopy: true,
  emptyMountNamespace: true,
  tryLock: true,
  notifyManager: true,
  adoptListener: true,
  pinNamespace: true,
  hasInterface: true,
  readInterfaces: true,
  changeFiles: true,
  startProgram: true,
  askForFork: true,
  endedChild: true,
  reapPrograms: true,
  hostCapabilities: true,
  unblockUsr1: true,
  limitKeptMemory: true,
  reuseFreedBuffers: true,
  trimHeap: true,
  letGoOfProgram: true,
  exitNow: true,
};

function isHost(addon: unknown): addon is Host {
  if (typeof addon !== "object" || addon === null) return false;
  const members = new Map<string, unknown>(Object.entries(addon));
  return Object.keys(methods).every((name) => typeof members.get(name) === "function");
}

async function withHostError<Value>(call: () => Promise<Value>): Promise<Value> {
  try {
    return await call();
  } catch (error) {
    throw fromAddon(error);
  }
}
