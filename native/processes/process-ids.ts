// Lists and kills processes of this host. Source: proc(5).

import { readdir } from "node:fs/promises";

export async function processIds(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Sends SIGKILL. It is not an error if the process has already exited. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Root may kill any process, so it has exited.
  }
}
