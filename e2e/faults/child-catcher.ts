// Run by hindrances.ts: sends a signal to the next child of a process whose command line has a word, within
// microseconds of its execve, by looking without a pause. Prints a line when it looks, and then the child's pid.
//   node child-catcher.ts PARENT WORD SIGNAL

import { readdirSync, readFileSync, writeSync } from "node:fs";

const [parent = "", word = "", signal = ""] = process.argv.slice(2);
const before = new Set(children());
const lookMs = 15_000;
writeSync(1, "looking\n");
const end = performance.now() + lookMs;
while (performance.now() < end) {
  const pid = children().find((child) => !before.has(child) && read(`/proc/${child}/cmdline`).includes(word));
  if (pid === undefined) continue;
  process.kill(Number(pid), signal);
  writeSync(1, `${pid}\n`);
  break;
}

/** Of all its threads. */
function children(): string[] {
  return readdirSync(`/proc/${parent}/task`).flatMap((thread) =>
    read(`/proc/${parent}/task/${thread}/children`).split(" ").filter(Boolean),
  );
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
