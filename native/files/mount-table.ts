// The mount table of a process, as proc_pid_mountinfo(5) shows it.

import { readFile } from "node:fs/promises";

export interface MountEntry {
  /** "8:1": of the file system. */
  readonly device: string;
  /** What of the file system is mounted. */
  readonly root: string;
  /** The mount point, below the root directory of the process. */
  readonly at: string;
  readonly type: string;
  /** Of the file system; on cgroup v1 with its controllers. */
  readonly options: string;
  /** What is mounted below it is mounted in its peer group too (mount_namespaces(7)). */
  readonly isShared: boolean;
  /** What is mounted in the peer group above it is mounted below it too. */
  readonly isSlave: boolean;
}

/** In the order in which the kernel lists them: what is mounted later stands further down. */
export async function readMountTable(pid: number | "self" = "self"): Promise<readonly MountEntry[]> {
  return parseMountTable(await readFile(`/proc/${pid}/mountinfo`, "latin1"));
}

/** Of a table that was read as latin1, since paths are bytes. */
export function parseMountTable(mountinfo: string): readonly MountEntry[] {
  return mountinfo.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    const [, , device = "", root = "", at = ""] = fields;
    // Any number of optional fields stands before the separator.
    const dash = fields.indexOf("-", 6);
    if (dash < 0 || fields.length - dash < 4) return [];
    const [type = "", , options = ""] = fields.slice(dash + 1);
    const has = (tag: string) => fields.slice(6, dash).some((field) => field.startsWith(tag));
    const [isShared, isSlave] = [has("shared:"), has("master:")];
    return [{ device, root: unescaped(root), at: unescaped(at), type, options, isShared, isSlave }];
  });
}

/** What a path without links lies on. */
export function mountOf(path: string, table: readonly MountEntry[]): MountEntry | undefined {
  let nearest: MountEntry | undefined;
  for (const entry of table) {
    const covers = path === entry.at || path.startsWith(entry.at === "/" ? "/" : `${entry.at}/`);
    // Of several at one point the last one is seen.
    if (covers && entry.at.length >= (nearest?.at.length ?? 0)) nearest = entry;
  }
  return nearest;
}

/** A directory's mount points, its own and those below it, in the order in which they can be unmounted. */
export async function mountsBelow(directory: string): Promise<readonly string[]> {
  const table = await readMountTable();
  return table
    .map(({ at }) => at)
    .filter((at) => at === directory || at.startsWith(`${directory}/`))
    .reverse();
}

/** The kernel writes blank, tab, newline and backslash as three octal digits. */
function unescaped(path: string): string {
  const bytes = path.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, "latin1").toString();
}
