// Things of the kernel that make a step fail or hang: full and dead file systems, read-only cgroups, stopped processes.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Takes the hindrance away; what waits on it goes on or fails. */
export type Lift = () => Promise<void>;

/** A file system without room for one more file, over a directory (made when missing). */
export async function full(directory: string): Promise<Lift> {
  await mkdir(directory, { recursive: true });
  // The root directory is the one inode.
  await execute("mount", ["-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=755", "full", directory]);
  return () => unmount(directory);
}

/**
 * A file system whose server is gone, as a network share may be: every access waits until the server comes
 * back or the mount is broken off. It is FUSE, and nobody ever answers.
 */
export async function dead(directory: string): Promise<Lift> {
  await mkdir(directory, { recursive: true });
  const connection = openSync("/dev/fuse", "r+");
  const options = "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other";
  const mount = spawn("mount", ["-i", "-t", "fuse", "-o", options, "dead", directory], {
    stdio: ["ignore", "ignore", "inherit", connection],
  });
  const [code] = await once(mount, "exit");
  if (code !== 0) {
    closeSync(connection);
    throw new Error(`mount of FUSE on ${directory} failed with ${code}`);
  }
  return async () => {
    // Without a connection whoever waits gets ENOTCONN.
    closeSync(connection);
    await unmount(directory);
  };
}

/** Every hierarchy's cgroup of that name can have no child any more. */
export async function readOnlyCgroups(name: string): Promise<Lift> {
  const lifts: Lift[] = [];
  for (const path of await cgroupRoots()) {
    const directory = join(path, name);
    if (existsSync(directory)) lifts.push(await readOnly(directory));
  }
  return async () => {
    for (const lift of lifts) await lift();
  };
}

/** Everything below the directory can be read and not written. */
export async function readOnly(directory: string): Promise<Lift> {
  await execute("mount", ["--bind", directory, directory]);
  await execute("mount", ["-o", "remount,bind,ro", directory]);
  return () => unmount(directory);
}

/** What is at the path is away for a while. */
export async function absent(path: string): Promise<Lift> {
  const aside = `${path}.aside`;
  await rename(path, aside);
  return async () => await rename(aside, path);
}

export function stopped(pid: number): Lift {
  process.kill(pid, "SIGSTOP");
  return async () => {
    try {
      process.kill(pid, "SIGCONT");
    } catch {
      // It was ended while it stood still.
    }
  };
}

export interface Catch {
  /** The child's pid; rejects when there was none. */
  readonly caught: Promise<number>;
  readonly giveUp: () => void;
}

/** Sends the signal to the next child of the daemon whose command line has `needle`; resolves once it looks out. */
export async function catchChild(daemonPid: number, needle: string, signal: "SIGSTOP" | "SIGKILL"): Promise<Catch> {
  const script = join(import.meta.dirname, "child-catcher.ts");
  const catcher = spawn(process.execPath, [script, String(daemonPid), needle, signal], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output: Buffer[] = [];
  catcher.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  const caught = once(catcher, "close").then(() => {
    const pid = Number(Buffer.concat(output).toString().split("\n")[1]);
    if (!(pid > 0)) throw new Error(`no child of the daemon with ${needle} was caught`);
    return pid;
  });
  caught.catch(() => undefined);
  await once(catcher.stdout, "data");
  return { caught, giveUp: () => catcher.kill("SIGKILL") };
}

async function unmount(directory: string): Promise<void> {
  await execute("umount", ["-l", directory]);
}

async function cgroupRoots(): Promise<string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(" ")[4] ?? "");
}
