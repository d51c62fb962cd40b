// The file system on which everything of a run lies: ext4 with a journal, as most nodes have it, in a file of its own.
//
// The machine's may be of a kind that counts more than any server. An ext4 without a journal looks at every inode that was
// freed in the last half minute whenever it makes one: where ten pods start at once and others have just gone, that was
// a quarter of all processor time here.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** Of which only what is written takes room. */
const size = "32G";

/** Makes and mounts it below `directory`, and gives its place. It goes with the mount namespace, its file with the directory. */
export async function mountDisk(directory: string): Promise<string> {
  const execute = promisify(execFile);
  const file = join(directory, "disk.img");
  const disk = join(directory, "disk");
  await mkdir(disk);
  await execute("truncate", ["--size", size, file]);
  // Whole from the start: what the kernel would else go on making by and by would be in the figures.
  const whole = "lazy_itable_init=0,lazy_journal_init=0";
  await execute("mkfs.ext4", ["-q", "-F", "-O", "has_journal", "-E", whole, file]);
  // Past the cache of the file system below: with it, what a server flushes is written twice, in four times as long.
  const { stdout } = await execute("losetup", ["--find", "--show", "--direct-io=on", file]);
  const device = stdout.trim();
  try {
    await execute("mount", ["-o", "relatime", device, disk]);
  } finally {
    // While it is mounted the kernel only notes it, for the end of the mount.
    await execute("losetup", ["--detach", device]);
  }
  return disk;
}
