// `npm run e2e:faults -- [PART …] [OPTIONS]`: injects faults into a node and checks that nothing is lost, duplicated
// or leaked.
//
// Parts, all but `soak` when none is named:
//   kills   kills the daemon and monitors at random moments, under load
//   wild    the same with CNI plugins that fail or hang at random
//   steps   makes each step of RunPodSandbox, CreateContainer, StartContainer and PullImage fail and hang
//   soak    thousands of pods, measuring the daemon and the host after each quarter
// Options:
//   --seed NUMBER                      repeats the random choices of a run that printed this seed
//   --kills NUMBER --monitor-kills NUMBER   for `kills` and `wild` each; 300 and 100
//   --pods NUMBER                      for `soak`; 2,000
//   --only REGEX                       for `steps`: those whose name matches
//   --ci                               the short form, 3 minutes: 20 kills and 8 of monitors, 1 s for hanging steps
// It runs in its own mount namespace (unshare -m), so that hanging file systems do not leak out, and cgroup hierarchies
// that others mount and unmount do not interfere.
// The last line is "N passed, N failed".

import { parseArgs } from "node:util";
import { createSteps } from "../../fixtures/steps.ts";
import { killRun } from "./kills.ts";
import { soak } from "./soak.ts";
import { stepRun } from "./steps.ts";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string" },
    kills: { type: "string" },
    "monitor-kills": { type: "string" },
    pods: { type: "string" },
    only: { type: "string" },
    ci: { type: "boolean" },
  },
});
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const seed = Number(options.seed ?? 1 + Math.floor(Math.random() * 999_999));
const kills = Number(options.kills ?? (options.ci === true ? 20 : 300));
const monitorKills = Number(options["monitor-kills"] ?? (options.ci === true ? 8 : 100));
const hangMs = options.ci === true ? 1000 : 2500;
const pods = Number(options.pods ?? 2000);
/** Ends the parts early, so that everything they created is removed. */
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    say(`      ${signal}: stopping`);
    interrupted.abort(new Error(`interrupted by ${signal}`));
  });
}
const { step, thrown, conclude } = createSteps(say);

const parts = positionals.length === 0 ? ["kills", "wild", "steps"] : positionals;
say(`seed ${seed}`);
if (options.ci === true)
  say(
    `shortened: ${kills} kills instead of 300, ${monitorKills} of monitors instead of 100, a caller's deadline of 1 s instead of 2.5, no soak`,
  );
for (const part of parts) await runPart(part).catch(thrown);
process.exitCode = conclude() ? 0 : 1;

async function runPart(part: string): Promise<void> {
  switch (part) {
    case "kills":
    case "wild": {
      const wildNetwork = part === "wild";
      const title = `${kills} kills of the daemon, ${monitorKills} of monitors${wildNetwork ? ", wild plugins" : ""}: nothing lost, duplicated or left behind (seed ${seed})`;
      return await step(title, async () => {
        const wrong = await killRun({ seed, kills, monitorKills, wildNetwork, say, signal: interrupted.signal });
        nothing(wrong.length === 0 ? [] : [`${wrong.length} failures, reported above`]);
      });
    }
    case "steps":
      return await stepRun({ only: new RegExp(options.only ?? ""), step, say, signal: interrupted.signal, hangMs });
    case "soak":
      return await step(`a soak of ${pods} pods, 8 at a time, is flat`, async () =>
        nothing(await soak(pods, say, interrupted.signal)),
      );
    default:
      throw new Error(`no such part: ${part}`);
  }
}

function nothing(wrong: readonly string[]): void {
  if (wrong.length === 0) return;
  const error = new Error(wrong.join("\n      "));
  // Without the stack, which says nothing about the daemon.
  error.stack = error.message;
  throw error;
}
