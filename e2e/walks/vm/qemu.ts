// QEMU as a child process, from Debian 13's packages, unpacked but not installed: guests panic under the CPU emulation
// of Debian 12's QEMU.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpackFromSuite } from "../../fixtures/debian.ts";

/** Unpacks QEMU, unless it is cached, and returns its directory. */
export async function qemuPackage(cache: string): Promise<string> {
  const root = join(cache, "qemu-trixie");
  if ((await stat(root).catch(() => undefined)) !== undefined) return root;
  await mkdir(cache, { recursive: true });
  const scratch = await mkdtemp(join(tmpdir(), "keelson-qemu-"));
  const fresh = `${root}.${process.pid}`;
  try {
    await unpackFromSuite("trixie", ["qemu-system-x86"], fresh, scratch);
    await rename(fresh, root);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await rm(fresh, { recursive: true, force: true });
  }
  return root;
}

/** Starts QEMU with the machine's arguments. It dies with this process, and runs at the lower priority of nice 10. */
export function startQemu(root: string, machine: readonly string[]): ChildProcess {
  const usr = join(root, "usr");
  const libraries = join(usr, "lib/x86_64-linux-gnu");
  const words = [
    ...["setpriv", "--pdeathsig", "KILL", "nice", "-n", "10"],
    ...[join(usr, "lib64/ld-linux-x86-64.so.2"), "--library-path", `${libraries}:${join(usr, "lib")}`],
    join(usr, "bin/qemu-system-x86_64"),
    ...["qemu", "seabios"].flatMap((name) => ["-L", join(usr, "share", name)]),
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...machine,
  ];
  const [program = "", ...rest] = words;
  const env = { ...process.env, QEMU_MODULE_DIR: join(libraries, "qemu") };
  return spawn(program, rest, { stdio: ["ignore", "ignore", "pipe"], env });
}
