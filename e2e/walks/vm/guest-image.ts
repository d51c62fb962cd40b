// A guest's root filesystem and kernel, made from Debian's packages once and kept: mmdebstrap, guest/customize.sh, mke2fs.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { sourceOf } from "../../fixtures/debian.ts";

const execute = promisify(execFile);

const suites = { debian12: "bookworm", debian13: "trixie" } as const;
export type GuestName = keyof typeof suites;
export const guestNames: readonly GuestName[] = ["debian12", "debian13"];

export interface GuestImage {
  readonly name: GuestName;
  /** A raw disk with one ext4 and no partitions. */
  readonly disk: string;
  readonly kernel: string;
}

const packages = [
  ...["systemd", "systemd-sysv", "dbus", "kmod", "procps", "util-linux", "iproute2", "apparmor"],
  // What Keelson's package wants of Debian, and what its tests use.
  ...["libseccomp2", "libisal2", "libmnl0", "libstdc++6", "nftables", "iptables", "containernetworking-plugins"],
  ...["busybox-static", "docker-registry", "runc", "crun"],
  // critest loads its AppArmor profiles through it.
  "sudo",
];
const left = ["doc", "man", "locale", "info"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
/** Sparse: what a guest may write. */
const diskSize = "3G";
const buildMs = 10 * 60_000;

/** Under a name that says what went in, but for the packages' versions: removing it fetches what Debian has today. */
export async function guestImage(name: GuestName, cache: string): Promise<GuestImage> {
  const recipe = join(import.meta.dirname, "guest");
  const parts = await Promise.all((await readdir(recipe)).sort().map((file) => readFile(join(recipe, file), "utf8")));
  const key = createHash("sha256").update(JSON.stringify([suites[name], packages, left, diskSize, parts]));
  const directory = join(cache, "vm", `${name}-${key.digest("hex").slice(0, 12)}`);
  if ((await stat(directory).catch(() => undefined)) === undefined) await build(name, recipe, directory);
  return { name, disk: join(directory, "root.img"), kernel: join(directory, "vmlinuz") };
}

async function build(name: GuestName, recipe: string, directory: string): Promise<void> {
  await mkdir(join(directory, ".."), { recursive: true });
  const scratch = await mkdtemp(`${directory}.`);
  try {
    const [root, made] = [join(scratch, "root"), join(scratch, "made")];
    await mkdir(made);
    const options = { timeout: buildMs, maxBuffer: 64 << 20 };
    const hook = `--customize-hook=sh ${join(recipe, "customize.sh")} "$1"`;
    const words = ["--quiet", "--mode=root", "--variant=minbase", `--include=${packages.join(",")}`, ...left, hook];
    await execute("mmdebstrap", [...words, suites[name], root, await sourceOf(suites[name], "deb")], options);
    await copyFile(join(root, "boot/vmlinuz"), join(made, "vmlinuz"));
    await execute("mke2fs", ["-q", "-t", "ext4", "-d", root, join(made, "root.img"), diskSize], options);
    // Under its name only when whole.
    await rename(made, directory);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
