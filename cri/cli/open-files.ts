// How many files this process might have open when it was started, as containers may. Node has raised its own soft limit to
// the hard one since, and its children inherit that; programs that count up to it, or use select(2), want the lower one.
// Source: getrlimit(2). cri/keelson puts the soft limit into the environment.

import { readFile } from "node:fs/promises";
import type { OpenFilesLimit } from "../../pod/index.ts";

/** Takes it out of the environment; undefined when it is not there. */
export async function openFilesAtStart(environment: NodeJS.ProcessEnv): Promise<OpenFilesLimit | undefined> {
  const soft = Number(environment.KEELSON_OPEN_FILES);
  delete environment.KEELSON_OPEN_FILES;
  const limits = await readFile("/proc/self/limits", "utf8");
  const hard = Number(/^Max open files +\S+ +(\d+)/m.exec(limits)?.[1]);
  return soft > 0 && soft <= hard ? { soft, hard } : undefined;
}
