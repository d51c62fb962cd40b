// A guest's root filesystem and kernel, built from Debian's packages once and cached: mmdebstrap, guest/customize.sh,
// mke2fs.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { sourceOf } from "../../fixtures/debian.ts";

const execute = promisify(execFile);

/** SELinux instead of AppArmor: Debian's policy, and labels on all files, which mke2fs copies. */
const selinux = {
  packages: ["selinux-policy-default", "policycoreutils"],
  hook: [
    "set -eu",
    'printf "SELINUX=permissive\\nSELINUXTYPE=default\\n" >"$1/etc/selinux/config"',
    'chroot "$1" setfiles -F /etc/selinux/default/contexts/files/file_contexts /',
  ].join("\n"),
  // Without an audit daemon, denials go to the kernel log: keep all of them.
  kernelWords: [
    "lsm=landlock,lockdown,yama,integrity,selinux",
    "audit_backlog_limit=8192",
    "sysctl.kernel.printk_ratelimit=0",
    "log_buf_len=8M",
  ],
};
const guests = {
  debian12: { suite: "bookworm" },
  debian13: { suite: "trixie" },
  selinux: { suite: "trixie", more: selinux },
} as const;
export type GuestName = keyof typeof guests;
export const guestNames: readonly GuestName[] = ["debian12", "debian13", "selinux"];

interface Guest {
  readonly suite: string;
  readonly more?: typeof selinux;
}

export interface GuestImage {
  readonly name: GuestName;
  /** A raw disk with one ext4 and no partitions. */
  readonly disk: string;
  readonly kernel: string;
  /** Further kernel command line parameters. */
  readonly kernelWords: readonly string[];
}

const packages = [
  ...["systemd", "systemd-sysv", "dbus", "kmod", "procps", "util-linux", "iproute2", "apparmor"],
  // The dependencies of Keelson's package, and what its tests use.
  ...["libseccomp2", "libisal2", "libmnl0", "libstdc++6", "nftables", "iptables", "containernetworking-plugins"],
  ...["busybox-static", "docker-registry", "runc", "crun"],
  // critest loads its AppArmor profiles with sudo.
  "sudo",
];
const left = ["doc", "man", "locale", "info"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
/** The image is sparse; this is how much a guest may write. */
const diskSize = "3G";
const buildMs = 10 * 60_000;

/** The directory's name has a hash of all inputs except package versions: remove it to get Debian's current ones. */
export async function guestImage(name: GuestName, cache: string): Promise<GuestImage> {
  const { suite, more }: Guest = guests[name];
  const recipe = join(import.meta.dirname, "guest");
  const parts = await Promise.all((await readdir(recipe)).sort().map((file) => readFile(join(recipe, file), "utf8")));
  const key = createHash("sha256").update(
    JSON.stringify([suite, packages, left, diskSize, parts, ...(more === undefined ? [] : [more])]),
  );
  const directory = join(cache, "vm", `${name}-${key.digest("hex").slice(0, 12)}`);
  if ((await stat(directory).catch(() => undefined)) === undefined) await build(guests[name], recipe, directory);
  const kernelWords = more?.kernelWords ?? ["audit=0"];
  return { name, disk: join(directory, "root.img"), kernel: join(directory, "vmlinuz"), kernelWords };
}

async function build({ suite, more }: Guest, recipe: string, directory: string): Promise<void> {
  await mkdir(join(directory, ".."), { recursive: true });
  const scratch = await mkdtemp(`${directory}.`);
  try {
    const [root, made] = [join(scratch, "root"), join(scratch, "made")];
    await mkdir(made);
    const options = { timeout: buildMs, maxBuffer: 64 << 20 };
    const included = [...packages, ...(more?.packages ?? [])].join(",");
    const hooks = [`sh ${join(recipe, "customize.sh")} "$1"`, more?.hook ?? "true"];
    const words = ["--quiet", "--mode=root", "--variant=minbase", `--include=${included}`, ...left];
    words.push(...hooks.map((hook) => `--customize-hook=${hook}`));
    await execute("mmdebstrap", [...words, suite, root, await sourceOf(suite, "deb")], options);
    await copyFile(join(root, "boot/vmlinuz"), join(made, "vmlinuz"));
    await execute("mke2fs", ["-q", "-t", "ext4", "-d", root, join(made, "root.img"), diskSize], options);
    // It gets its final name only when complete.
    await rename(made, directory);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
