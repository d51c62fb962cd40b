// A node that is out of something (disk, descriptors, memory, processes), or whose disk is read-only: ResourceExhausted wherever in
// the daemon it shows, since neither the request nor a program did anything wrong.

import { constants } from "node:os";
import { firstLine, HostError, KeelsonError, MonitorError } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

type Shortage = "ENOSPC" | "EDQUOT" | "EROFS" | "EMFILE" | "ENFILE" | "ENOMEM" | "EAGAIN";

/** `place`: the file system that it is about. */
const shortages: Readonly<Record<Shortage, { readonly what: string; readonly remedy: (place: string) => string }>> = {
  ENOSPC: { what: "a full file system", remedy: (place) => `Free space or inodes on ${place} (df, df -i).` },
  EDQUOT: { what: "a used-up disk quota", remedy: (place) => `Free space on ${place}, or raise the quota.` },
  EROFS: {
    what: "a read-only file system",
    remedy: (place) => `Mount ${place} writable; the kernel's log tells whether a failing disk made it read-only.`,
  },
  EMFILE: {
    what: "the daemon's limit of open files",
    remedy: () => "Raise it (LimitNOFILE= of the daemon's unit), or end some of the open sessions.",
  },
  ENFILE: { what: "the node's limit of open files", remedy: () => "Raise fs.file-max, or end what holds them." },
  ENOMEM: { what: "a lack of memory", remedy: () => "Free memory of the node, or of the pod's cgroup." },
  // Of fork(2) and pthread_create(3).
  EAGAIN: {
    what: "a limit of processes and threads",
    remedy: () => "End what has so many of them, or raise kernel.pid_max and kernel.threads-max.",
  },
};

/** What a monitor reports of the kernel's limits: ENOSPC may be a full cpuset or too many namespaces as well as a disk. */
const ofPods: ReadonlySet<string> = new Set<Shortage>(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN"]);

/** The error to answer with when a shortage is behind what was thrown; undefined when none is. */
export function exhausted(step: string, thrown: unknown): KeelsonError | undefined {
  if (thrown instanceof KeelsonError && thrown.code === "ResourceExhausted") return undefined;
  // A HostError's own remedy is for other reasons than these; its cause has the same sentence without it.
  const reason = firstLine(thrown instanceof HostError ? thrown.cause : thrown);
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof MonitorError) {
      if (cause.kind !== "system" || !ofPods.has(errnoName(cause.errno))) return undefined;
      return criErrors.podLimit({ step, reason }, thrown);
    }
    const name = shortageOf(cause);
    if (name === undefined) continue;
    const path = pathOf(cause);
    const place = path === undefined ? "the file system it names" : `the file system of ${path}`;
    return criErrors.nodeExhausted(
      { step, reason, what: shortages[name].what, remedy: shortages[name].remedy(place) },
      thrown,
    );
  }
  return undefined;
}

/** Of the two paths of a copy or rename, the one that is written. */
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
