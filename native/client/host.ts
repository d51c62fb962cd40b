// System calls that Node lacks, from the addon (native/addon/). They run on libuv's thread pool; what takes as long as a
// tree or a disk is large, on threads of its own.

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

/** Modes are subject to the umask where nothing else is said. */
export type FileStep =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number; readonly mayExist?: boolean }
  /** With the mode of another, and that one's owner's ids on top of these. */
  | {
      readonly kind: "directory like";
      readonly path: string;
      readonly like: string;
      readonly uid: number;
      readonly gid: number;
    }
  /** Made, or emptied and written again. */
  | {
      readonly kind: "file";
      readonly path: string;
      readonly content: string | Uint8Array;
      /** 0666 when absent. */
      readonly mode?: number;
      /** Whatever the umask says, and of a file that is there already. */
      readonly isModeExact?: boolean;
      /** Nothing may be there (EEXIST). */
      readonly isNew?: boolean;
      /** Added to the end of a file that is there (ENOENT). */
      readonly isAdded?: boolean;
      /** On disk before the next step. */
      readonly isFlushed?: boolean;
      /** 0 or absent: as it is. */
      readonly uid?: number;
      readonly gid?: number;
    }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  /** A file; missing is fine. */
  | { readonly kind: "remove"; readonly path: string }
  /** A file, or a directory: what is in it survives a power cut. */
  | { readonly kind: "flush"; readonly path: string };

/**
 * What a program has as a descriptor: /dev/null, a file that holds its input, a pipe that it reads or writes, a socket
 * for messages (SOCK_SEQPACKET), or the number of a descriptor of ours, which stays open until the start is over.
 */
export type ProgramDescriptor = "null" | "input" | "reads" | "writes" | "socket" | `${number}`;

export interface StartedProgram {
  readonly pid: number;
  /** Our ends, by descriptor; -1 where there is none. The caller's to close. */
  readonly pipes: readonly number[];
}

export interface ReapedProgram {
  readonly pid: number;
  /** -1 for a death by signal. */
  readonly code: number;
  /** 0 without one; with code -1, somebody else has reaped it. */
  readonly signal: number;
}

/** readFigures' answer for a figure that is not there. */
export const noFigure = 2n ** 64n - 1n;

/** Rejections are HostErrors (host-errors.ts): what the kernel refused, at which step, with its errno. */
export interface Host {
  /**
   * Flushes the file system that an open file is on (syncfs(2)). The kernel tells each descriptor once of bytes that it
   * could not write since that was opened: one that is opened for a flush knows nothing of what an earlier flush met.
   */
  syncFileSystem(descriptor: number): Promise<void>;
  /**
   * Reads many small files in one go, for cgroup and procfs files. A file that is missing, unreadable,
   * not regular, or longer than `limitBytes` (at most 2^30) is null.
   */
  readFiles(paths: readonly string[], limitBytes: number): Promise<(Buffer | null)[]>;
  /**
   * Numbers out of the same files of many directories, as stats take them from cgroups: for each directory, each
   * figure. "FILE" is a file's only number, "FILE KEY" that of a flat keyed file, "FILE KEY SUBKEY" that of a nested
   * keyed one (cgroup-v2.rst, Interface Files). A decimal point is left out: 1.50 is 150. `noFigure` stands for what is
   * missing, unreadable or no number ("max"). Figures of one file stand together: it is read once for them.
   */
  readFigures(directories: readonly string[], figures: readonly string[]): Promise<BigUint64Array>;
  /**
   * The same, of directories that will be asked again: their files stay open, up to a quarter of the descriptors that
   * this process may have, until `forgetFigures` closes them.
   */
  readFiguresAgain(directories: readonly string[], figures: readonly string[]): Promise<BigUint64Array>;
  forgetFigures(directories: readonly string[]): Promise<void>;
  /**
   * How many descriptors processes hold together, by directories like `/proc/PID/fd`; one that is gone holds none.
   * Rejects with InvalidArgument past `limit` (at most 2^30) descriptors.
   */
  countDescriptors(directories: readonly string[], limit: number): Promise<OpenDescriptors>;
  /**
   * Opens the regular file `name` below `directory`, which somebody else wrote: through no link and not out of it
   * (openat2 RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). Answers a close-on-exec descriptor, the caller's to close; null
   * when there is no such file.
   */
  openInside(directory: string, name: string): Promise<number | null>;
  /**
   * Measures a tree (or one file) without following links or entering other mounts, at any depth.
   * Counts no further than `maxInodes` (default 10 million), and not what cannot be read. Rejects with NotFound when
   * nothing is there.
   */
  diskUsage(path: string, maxInodes?: bigint): Promise<DiskUsage>;
  /**
   * Removes whatever `path` is, at any depth, without following links; hostile content may stand in it.
   * Missing is fine. A mount point at or inside it rejects (errno EBUSY) and keeps its content.
   */
  removeTree(path: string): Promise<void>;
  /** Whether a file or directory, which no link leads to, has an SELinux label. Rejects with NotFound without it. */
  hasLabel(path: string, label: string): Promise<boolean>;
  /**
   * Gives a tree (or one file) an SELinux label: how many of its files had another. Through no link and into no other
   * mount; a top that has the label is taken for a tree that has it, and file systems without labels are passed over.
   * Rejects with InvalidArgument past `maxInodes`, with DeadlineExceeded past `maxSeconds`.
   */
  relabelTree(path: string, label: string, maxInodes: bigint, maxSeconds: number): Promise<bigint>;
  /**
   * Makes in the empty directory `into` what must lie over `layers` (top first) for directories that an upper one has
   * without an entry to look as in the layers below: how many directories, 0 for nothing. Rejects with InvalidArgument when
   * there is too much to look at.
   */
  coverUnnamed(layers: readonly string[], into: string): Promise<bigint>;
  /**
   * Reads regular files out of a container's root (layers as overlayfs would show them, top first),
   * resolved inside the root (openat2 RESOLVE_IN_ROOT) on a detached mount; nothing but a regular file is
   * opened. One answer for each path; a file longer than `limitBytes` (at most 2^30) is `too-large`.
   */
  readFromLayers(layers: readonly string[], paths: readonly string[], limitBytes: number): Promise<LayerFile[]>;
  /**
   * What a container has removed from its image's layers (top first), told from its overlay's upper directory:
   * paths below the root, no leading slash. Nothing may write there meanwhile. Rejects with InvalidArgument
   * past `maxPaths` (default 1 million), or 128 MiB of them.
   */
  removedPaths(upper: string, layers: readonly string[], maxPaths?: bigint): Promise<Buffer[]>;
  /** Unmounts lazily (MNT_DETACH | UMOUNT_NOFOLLOW); not mounted or missing is fine. */
  unmount(path: string): Promise<void>;
  /**
   * Compiles an OCI `linux.seccomp` object (JSON) into a BPF program (struct sock_filter[], at most 4096)
   * with libseccomp. System calls that it does not know get the default action. Rejects with
   * InvalidArgument what a program cannot express (SCMP_ACT_NOTIFY, flags but TSYNC and SPEC_ALLOW).
   */
  compileSeccomp(profileJson: string): Promise<Buffer>;
  /**
   * A sealed copy of an executable in memory: nobody can change it any more. Answers a close-on-exec
   * descriptor, the caller's to close; run it as `/proc/self/fd/<fd>`.
   */
  sealedCopy(path: string): Promise<number>;
  /**
   * A mount namespace with next to nothing in it, which containers begin with (native/common/empty_mounts.h). Answers a
   * close-on-exec descriptor, the caller's to close.
   */
  emptyMountNamespace(): Promise<number>;
  /**
   * An exclusive flock(2) on the file (made when missing, mode 0600): the descriptor that holds it
   * until closed, also at the process's death; null when another process holds it.
   */
  tryLock(path: string): Promise<number | null>;
  /** Sends "KEY=value" lines to a service manager at the address in $NOTIFY_SOCKET (sd_notify(3)). */
  notifyManager(path: string, lines: string): Promise<void>;
  /**
   * Makes an inherited descriptor close-on-exec and answers the path that it listens on. Rejects with InvalidArgument
   * unless it is a listening unix stream socket with a path.
   */
  adoptListener(descriptor: number): Promise<string>;
  /**
   * Keeps the network namespace at `namespace` alive by a bind mount on the file `pin` (made when missing);
   * `unmount` lets it go. Rejects with NotFound when no network namespace is there.
   */
  pinNamespace(namespace: string, pin: string): Promise<void>;
  /**
   * A path with its links resolved. In a process of its own: on a file system that does not answer it never settles, takes
   * nobody else's thread and does not keep this process from its end. Rejects with NotFound when nothing is there.
   */
  resolvePath(path: string): Promise<string>;
  /** The same, but where nothing is, a directory is made, with those above it. */
  presentPath(path: string): Promise<string>;
  /** Whether a network namespace has an interface of that name. Rejects with NotFound when the namespace is not there. */
  hasInterface(namespace: string, interfaceName: string): Promise<boolean>;
  /** proc(5) net/dev of a network namespace, at most 64 KiB. Rejects with NotFound when the namespace is not there. */
  readInterfaces(namespace: string): Promise<string>;
  /**
   * Takes these steps one after another in one task of the thread pool. Rejects at the first that fails; what was made
   * before it stays. For native/files/change-files.ts, whose errors are Node's.
   */
  changeFiles(steps: readonly FileStep[]): Promise<void>;
  /**
   * Starts a program in a session of its own, without copying this process as child_process does (2 to 7 ms of the event
   * loop). `file` without a slash is looked for in our PATH; `words` begin with argv[0]; `environment` has `NAME=value`;
   * `descriptors` are its 0, 1, 2 and so on. Answers once it is executed. Who starts it reaps it.
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
   * Asks a fork server (PROTOCOL.md, "Start") at its socket for the monitor of a pod, and waits for nothing. Answers the
   * close-on-exec read end of a pipe with what the monitor says of its start, the caller's to close. Throws when the server
   * is gone (EPIPE, ECONNRESET) or takes nothing any more (EAGAIN).
   */
  askForFork(socket: number, podDirectory: string): number;
  /** The id of a child of this process, whoever started it, that has ended and is not reaped; 0 for none. */
  endedChild(): number;
  /** Those of these children that have ended. */
  reapPrograms(pids: readonly number[]): readonly ReapedProgram[];
  /** The capability bounding set of this process: bit n stands for capability n of capabilities(7). */
  hostCapabilities(): bigint;
  /** Lets SIGUSR1 reach its listeners: under --disable-sigusr1 Node keeps it blocked. For the main thread. */
  unblockUsr1(): void;
  /** Has the C library keep little of what is freed, as it does from when the addon is loaded (mallopt(3)). */
  limitKeptMemory(): void;
  /** Has it keep buffers of 64 KiB for others of them, until `limitKeptMemory`. */
  reuseFreedBuffers(): void;
  /** Gives what the C heap holds free back to the kernel (malloc_trim(3)). */
  trimHeap(): void;
  /** Unmaps this program's own code and constants (madvise(2), MADV_DONTNEED); what is needed comes back by page faults. */
  letGoOfProgram(): void;
  /**
   * Ends the process at once. process.exit joins the threads that files are read in, and one that waits for a dead
   * file system never comes back.
   */
  exitNow(code: number): never;
}

let own: Host | undefined;

/** This process's, loaded once: for what is native/'s own business and not its callers'. */
export function ownHost(): Host {
  own ??= loadHost();
  return own;
}

/** Loads the addon. Throws `addonNotLoaded` when it is not built or not for this machine. */
export function loadHost(paths: NativePaths = nativePaths()): Host {
  const addon = loadAddon(paths.addon);
  return {
    syncFileSystem: (descriptor) => withHostError(() => addon.syncFileSystem(descriptor)),
    readFiles: (files, limitBytes) => withHostError(() => addon.readFiles(files, limitBytes)),
    readFigures: (directories, figures) => withHostError(() => addon.readFigures(directories, figures)),
    readFiguresAgain: (directories, figures) => withHostError(() => addon.readFiguresAgain(directories, figures)),
    forgetFigures: (directories) => withHostError(() => addon.forgetFigures(directories)),
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
    // Of a missing file Node tells on further lines who asked for it.
    throw hostErrors.addonNotLoaded({ path, reason: firstLine(error) }, error);
  }
  if (!isHost(addon)) throw hostErrors.addonNotLoaded({ path, reason: "it is of another version" });
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
