// The limit of open files that this process was started with, which containers get. Node raises its own soft limit to
// the hard limit, and its children inherit that; programs that iterate up to it, or use select(2), need the lower one.
// Source: getrlimit(2). cri/keelson passes the soft limit in the environment.

import { readFile } from "node:fs/promises";
import type { OpenFilesLimit } from "../../pod/index.ts";

/** Removes it from the environment; undefined if it is not set. */
export async function openFilesAtStart(environment: NodeJS.ProcessEnv): Promise<OpenFilesLimit | undefined> {
  const soft = Number(environment.KEELSON_OPEN_FILES);
  delete environment.KEELSON_OPEN_FILES;
  const limits = await readFile("/proc/self/limits", "utf8");
  const hard = Number(/^Max open files +\S+ +(\d+)/m.exec(limits)?.[1]);
  return soft > 0 && soft <= hard ? { soft, hard } : undefined;
}
