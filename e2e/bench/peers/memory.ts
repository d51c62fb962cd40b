// Memory of processes: proportional set size (proc(5) smaps), which divides each shared page among its users.

import { readdir, readFile, readlink } from "node:fs/promises";
import { proportionalKilobytes } from "../../fixtures/processes.ts";

/**
 * Megabytes of a process as if no other process ran its program: the program's pages count in full, because the
 * benchmark runs on the same Node.js as Keelson, while a real machine has only the daemon.
 */
export async function megabytesAlone(pid: number): Promise<number> {
  return kilobytesAlone(await readFile(`/proc/${pid}/smaps`, "utf8"), await readlink(`/proc/${pid}/exe`)) / 1024;
}

export function kilobytesAlone(smaps: string, program: string): number {
  let isProgram = false;
  let sum = 0;
  for (const line of smaps.split("\n")) {
    // A mapping's first line: "7f00-7f01 r-xp 00000000 fe:00 1234   /usr/bin/node"
    if (/^[\da-f]+-[\da-f]+ /.test(line)) isProgram = line.endsWith(` ${program}`);
    const [, field, kilobytes] = /^(Rss|Pss): +(\d+) kB$/.exec(line) ?? [];
    if (field === (isProgram ? "Rss" : "Pss")) sum += Number(kilobytes);
  }
  return sum;
}

/** Megabytes of all processes with that name (proc(5) comm); the benchmark has its own PID namespace. */
export async function megabytesOfAll(name: string): Promise<number> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry));
  const names = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")));
  const found = pids.filter((_, index) => names[index]?.trim() === name).map(Number);
  const each = await Promise.all(found.map(proportionalKilobytes));
  return each.reduce((sum, kilobytes) => sum + kilobytes, 0) / 1024;
}
