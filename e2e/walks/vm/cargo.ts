// The disk with the files under test for a guest: the Debian package, packed and unpacked, crictl, critest, and OCI
// layouts.

import { execFile } from "node:child_process";
import { cp, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);
const makeMs = 2 * 60_000;
const packages = join(import.meta.dirname, "../../../dist");

export interface CargoParts {
  /** Programs for /cargo/bin, by name. */
  readonly programs: Readonly<Record<string, string>>;
  /** Writes the remaining files into the disk's root. */
  fill(root: string): Promise<void>;
}

/** Creates the disk in `directory` and returns its path. */
export async function makeCargo(directory: string, { programs, fill }: CargoParts): Promise<string> {
  const [root, disk] = [join(directory, "cargo"), join(directory, "cargo.img")];
  await mkdir(join(root, "bin"), { recursive: true });
  const deb = (await readdir(packages)).find((file) => file.endsWith(".deb"));
  if (deb === undefined) throw new Error(`${packages} has no .deb: npm run package`);
  await execute("dpkg-deb", ["--extract", join(packages, deb), join(root, "package")], { timeout: makeMs });
  await cp(join(packages, deb), join(root, "keelson.deb"));
  for (const [name, path] of Object.entries(programs)) await cp(path, join(root, "bin", name));
  await fill(root);
  const { stdout } = await execute("du", ["-sm", root]);
  // Half as much again for ext4's own metadata.
  const megabytes = Math.ceil(Number.parseInt(stdout, 10) * 1.5) + 16;
  await execute("mke2fs", ["-q", "-O", "^has_journal", "-d", root, disk, `${megabytes}M`], { timeout: makeMs });
  await rm(root, { recursive: true });
  return disk;
}
