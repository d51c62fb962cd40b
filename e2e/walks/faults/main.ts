// `npm run e2e:faults -- [PART …] [OPTIONS]`: breaks a node on purpose and looks whether anything is lost, doubled or left.
//
// Parts, all but `soak` when none is named:
//   kills   kills of the daemon and of monitors at random moments, under load
//   wild    the same with CNI plugins that fail or hang at random
//   steps   each step of RunPodSandbox, CreateContainer, StartContainer and PullImage made to fail and to hang
//   soak    pods by the thousand, and what the daemon and the host hold after each quarter
// Options:
//   --seed NUMBER                      random moments and choices, as an earlier run printed it
//   --kills NUMBER --monitor-kills NUMBER   of `kills` and of `wild`, each; 300 and 100
//   --pods NUMBER                      of `soak`; 2,000
//   --only REGEX                       of `steps`: those whose name matches
//   --ci                               the short form, 3 minutes: 20 kills and 8 of monitors, and a second for what hangs
// It runs in a mount namespace of its own (unshare -m): file systems that hang stay here, and cgroup hierarchies that
// others mount and unmount stay away.
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
/** Ends the parts early, so that what they made is taken down. */
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    say(`      ${signal}: ending`);
    interrupted.abort(new Error(`ended by ${signal}`));
  });
}
const { step, thrown, conclude } = createSteps(say);

const parts = positionals.length === 0 ? ["kills", "wild", "steps"] : positionals;
say(`seed ${seed}`);
if (options.ci === true)
  say(
    `shortened: ${kills} kills instead of 300, ${monitorKills} of monitors instead of 100, a caller's patience of 1 s instead of 2.5, no soak`,
  );
for (const part of parts) await runPart(part).catch(thrown);
process.exitCode = conclude() ? 0 : 1;

async function runPart(part: string): Promise<void> {
  switch (part) {
    case "kills":
    case "wild": {
      const wildNetwork = part === "wild";
      const title = `${kills} kills of the daemon, ${monitorKills} of monitors${wildNetwork ? ", wild plugins" : ""}: nothing lost, doubled or left (seed ${seed})`;
      return await step(title, async () => {
        const wrong = await killRun({ seed, kills, monitorKills, wildNetwork, say, signal: interrupted.signal });
        nothing(wrong.length === 0 ? [] : [`${wrong.length} things were wrong; they are told above`]);
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
  // Without the stack, which tells nothing of the daemon.
  error.stack = error.message;
  throw error;
}
