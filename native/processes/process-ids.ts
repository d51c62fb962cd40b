// The processes that there are. Source: proc(5).

import { readdir } from "node:fs/promises";

export async function processIds(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}
