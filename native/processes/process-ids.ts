// The processes of this host: which there are, and the end of one. Source: proc(5).

import { readdir } from "node:fs/promises";

export async function processIds(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** SIGKILL. One that has ended meanwhile is no error. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Root may kill everybody, so it has ended.
  }
}
