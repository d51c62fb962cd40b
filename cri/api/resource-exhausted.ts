// Node shortages (disk, descriptors, memory, processes) and read-only disks: reported as ResourceExhausted wherever
// they occur in the daemon, since neither the request nor a program is at fault.

import { constants } from "node:os";
import { firstLine, HostError, KeelsonError, MonitorError } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

type Shortage = "ENOSPC" | "EDQUOT" | "EROFS" | "EMFILE" | "ENFILE" | "ENOMEM" | "EAGAIN";

/** `place`: the affected file system. */
const shortages: Readonly<Record<Shortage, { readonly what: string; readonly remedy: (place: string) => string }>> = {
  ENOSPC: { what: "a full file system", remedy: (place) => `Free space or inodes on ${place} (df, df -i).` },
  EDQUOT: { what: "an exceeded disk quota", remedy: (place) => `Free space on ${place}, or raise the quota.` },
  EROFS: {
    what: "a read-only file system",
    remedy: (place) => `Mount ${place} writable; the kernel log shows whether a failing disk made it read-only.`,
  },
  EMFILE: {
    what: "the daemon's limit of open files",
    remedy: () => "Raise it (LimitNOFILE= of the daemon's unit), or close some of the open sessions.",
  },
  ENFILE: {
    what: "the node's limit of open files",
    remedy: () => "Raise fs.file-max, or stop the processes that hold them.",
  },
  ENOMEM: { what: "a lack of memory", remedy: () => "Free memory on the node, or in the pod's cgroup." },
  // From fork(2) and pthread_create(3).
  EAGAIN: {
    what: "a limit of processes and threads",
    remedy: () => "Stop processes that have many of them, or raise kernel.pid_max and kernel.threads-max.",
  },
};

/** Kernel limits reported by a monitor: ENOSPC may be a full cpuset or too many namespaces as well as a full disk. */
const ofPods: ReadonlySet<string> = new Set<Shortage>(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN"]);

/** The error to return if the thrown error was caused by a shortage; otherwise undefined. */
export function exhausted(step: string, thrown: unknown): KeelsonError | undefined {
  if (thrown instanceof KeelsonError && thrown.code === "ResourceExhausted") return undefined;
  // A HostError's remedy is meant for other causes; its own cause has the same sentence without the remedy.
  const reason = firstLine(thrown instanceof HostError ? thrown.cause : thrown);
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof MonitorError) {
      if (cause.kind !== "system" || !ofPods.has(errnoName(cause.errno))) return undefined;
      return criErrors.podLimit({ step, reason }, thrown);
    }
    const name = shortageOf(cause);
    if (name === undefined) continue;
    const path = pathOf(cause);
    const place = path === undefined ? "the affected file system" : `the file system of ${path}`;
    return criErrors.nodeExhausted(
      { step, reason, what: shortages[name].what, remedy: shortages[name].remedy(place) },
      thrown,
    );
  }
  return undefined;
}

/** For a copy or rename, the path that is written. */
function pathOf(error: Error): string | undefined {
  if (error instanceof HostError) return error.object.startsWith("/") ? error.object : undefined;
  if ("dest" in error && typeof error.dest === "string") return error.dest;
  return "path" in error && typeof error.path === "string" ? error.path : undefined;
}

function shortageOf(error: Error): Shortage | undefined {
  const name = error instanceof HostError ? errnoName(error.errno) : "code" in error ? String(error.code) : "";
  return isShortage(name) ? name : undefined;
}

function isShortage(name: string): name is Shortage {
  return name in shortages;
}

function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? "";
}
