// The file system for all files of a run: ext4 with a journal, as on most nodes, in its own file.
//
// The machine's own file system may affect the results more than any server. An ext4 without a journal checks every
// inode that was freed in the last half minute whenever it allocates one: with ten pods starting at once after others
// were removed, that took a quarter of all processor time here.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** The file is sparse: only written blocks take space. */
const size = "32G";

/**
 * Creates and mounts it below `directory`, and returns its path. The mount is removed with the mount namespace, the
 * file with the directory.
 */
export async function mountDisk(directory: string): Promise<string> {
  const execute = promisify(execFile);
  const file = join(directory, "disk.img");
  const disk = join(directory, "disk");
  await mkdir(disk);
  await execute("truncate", ["--size", size, file]);
  // Fully initialised: otherwise the kernel's lazy initialisation would affect the measurements.
  const initialised = "lazy_itable_init=0,lazy_journal_init=0";
  await execute("mkfs.ext4", ["-q", "-F", "-O", "has_journal", "-E", initialised, file]);
  // Bypass the page cache of the file system below: with it, flushed data is written twice, which takes four times as
  // long.
  const { stdout } = await execute("losetup", ["--find", "--show", "--direct-io=on", file]);
  const device = stdout.trim();
  try {
    await execute("mount", ["-o", "relatime", device, disk]);
  } finally {
    // While it is mounted, the kernel defers the detach until it is unmounted.
    await execute("losetup", ["--detach", device]);
  }
  return disk;
}
