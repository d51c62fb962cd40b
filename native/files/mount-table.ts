// The mount table of a process, from proc_pid_mountinfo(5).

import { readFile } from "node:fs/promises";

export interface MountEntry {
  /** Device number of the file system, such as "8:1". */
  readonly device: string;
  /** The directory in the file system that is mounted. */
  readonly root: string;
  /** The mount point, below the root directory of the process. */
  readonly at: string;
  readonly type: string;
  /** File system options; on cgroup v1 they include the controllers. */
  readonly options: string;
  /** Mounts below it propagate to its peer group (mount_namespaces(7)). */
  readonly isShared: boolean;
  /** Mounts in its master's peer group propagate to it. */
  readonly isSlave: boolean;
}

/** In the order in which the kernel lists them: later mounts come later. */
export async function readMountTable(pid: number | "self" = "self"): Promise<readonly MountEntry[]> {
  return parseMountTable(await readFile(`/proc/${pid}/mountinfo`, "latin1"));
}

/** Parses a table that was read as latin1, since paths are bytes. */
export function parseMountTable(mountinfo: string): readonly MountEntry[] {
  return mountinfo.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    const [, , device = "", root = "", at = ""] = fields;
    // There may be any number of optional fields before the separator.
    const dash = fields.indexOf("-", 6);
    if (dash < 0 || fields.length - dash < 4) return [];
    const [type = "", , options = ""] = fields.slice(dash + 1);
    const has = (tag: string) => fields.slice(6, dash).some((field) => field.startsWith(tag));
    const [isShared, isSlave] = [has("shared:"), has("master:")];
    return [{ device, root: unescaped(root), at: unescaped(at), type, options, isShared, isSlave }];
  });
}

/** The mount that contains a path, which must have no symbolic links. */
export function mountOf(path: string, table: readonly MountEntry[]): MountEntry | undefined {
  let nearest: MountEntry | undefined;
  for (const entry of table) {
    const covers = path === entry.at || path.startsWith(entry.at === "/" ? "/" : `${entry.at}/`);
    // Of several mounts at one mount point the last one is visible.
    if (covers && entry.at.length >= (nearest?.at.length ?? 0)) nearest = entry;
  }
  return nearest;
}

/** The mount points at and below a directory, in the order in which they can be unmounted. */
export async function mountsBelow(directory: string): Promise<readonly string[]> {
  const table = await readMountTable();
  return table
    .map(({ at }) => at)
    .filter((at) => at === directory || at.startsWith(`${directory}/`))
    .reverse();
}

/** The kernel escapes space, tab, newline and backslash as three octal digits. */
function unescaped(path: string): string {
  const bytes = path.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, "latin1").toString();
}
