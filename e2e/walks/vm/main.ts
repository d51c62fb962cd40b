// `npm run e2e:vm`: Keelson's package on hosts as people have them, Debian 12 and 13 with cgroup v2, systemd and AppArmor,
// as guests of QEMU without KVM. The first run makes the guests from Debian's packages: two minutes.
//
//   --guest NAME   debian12 or debian13; both when absent
//   --suite NAME   smoke, apparmor or systemd; all when absent
// Ends with a table, and "N passed, N failed". The last console of each guest is kept in the tools' cache, in vm/.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildBusyboxImage } from "../../fixtures/busybox-image.ts";
import { createSteps } from "../../fixtures/steps.ts";
import { criTool, toolsDirectory } from "../../fixtures/tools.ts";
import { apparmor } from "./apparmor.ts";
import { makeCargo } from "./cargo.ts";
import { type GuestName, guestImage, guestNames } from "./guest-image.ts";
import { crictlOf, install, log } from "./keelson.ts";
import { bootMachine, endOf, type MachineParts } from "./machine.ts";
import { busybox } from "./pods.ts";
import { qemuPackage } from "./qemu.ts";
import type { Scene } from "./scene.ts";
import { bringUp, smoke } from "./smoke.ts";
import { systemdDriver } from "./systemd-driver.ts";

type Suite = (scene: Scene) => Promise<void>;

/** Of a guest that has just booted, in this order. */
const suites: Readonly<Record<string, Suite>> = { smoke, apparmor, systemd: systemdDriver };

const { values: options } = parseArgs({
  options: { guest: { type: "string" }, suite: { type: "string" } },
});
const cache = toolsDirectory(process.env);
const total = createSteps(say);
const table = [["guest", "driver", "suite", "passed", "failed", "seconds"]];

const crictl = await criTool("crictl", cache);
if (process.arch !== "x64") say("skipped: the guests are x86-64 machines, and this build is of another architecture");
else if (crictl.kind === "unavailable") say(`skipped: ${crictl.reason}`);
else {
  await walk(crictl.path).catch(total.thrown);
  printTable();
  process.exitCode = total.conclude() ? 0 : 1;
}

async function walk(crictlPath: string): Promise<void> {
  const [names, chosenSuites] = [
    chosen("guest", guestNames, options.guest),
    chosen("suite", Object.keys(suites), options.suite),
  ];
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "keelson-vm-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const qemu = await timed("QEMU", () => qemuPackage(cache));
  const cargo = await timed("a disk with the package and tools", () =>
    makeCargo(directory, {
      programs: { crictl: crictlPath },
      fill: async (root) => void (await buildBusyboxImage(join(root, "busybox"), busybox)),
    }),
  );
  for (const name of names) {
    const image = await timed(`the guest ${name}`, () => guestImage(name, cache));
    const consoleLog = join(cache, "vm", `${name}-console.log`);
    await inGuest(name, { qemu, image, disk: image.disk, cargo, directory, consoleLog }, chosenSuites);
  }
}

/** All chosen suites in one boot; what fails in one ends it, and the next ones run all the same. */
async function inGuest(name: GuestName, parts: MachineParts, chosenSuites: readonly string[]): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const print = (text: string) => say(text.replaceAll(/^/gm, "      "));
  let guest: Omit<Scene, "step"> | undefined;
  const printLogs = async () => {
    print(`the console ends:\n${await endOf(parts.consoleLog)}`);
    if (guest !== undefined) print(`keelson's log ends:\n${await log(guest.machine)}`);
  };
  const isUp = await counted([name, "cgroupfs", "boot"], printLogs, async (step) => {
    const machine = await step(`${name} boots`, () => bootMachine(parts));
    undo.defer(() => machine.cut());
    guest = { machine, crictl: crictlOf(machine), print };
    const tries = machine.failedBoots === 0 ? "" : `, and ${machine.failedBoots} boots came to nothing before`;
    print(`ready ${(machine.bootMs / 1000).toFixed(1)} s after QEMU's start${tries}`);
    await install(machine);
    await bringUp({ ...guest, step });
  });
  if (!isUp) return;
  for (const suite of chosenSuites) {
    await counted([name, "cgroupfs", suite], printLogs, async (step) => {
      if (guest !== undefined) await suites[suite]?.({ ...guest, step });
    });
  }
}

/** Runs it as a row of the table; whether all of it passed. Where not, the guest's logs are shown. */
async function counted(
  row: readonly string[],
  printLogs: () => Promise<void>,
  run: (step: Scene["step"]) => Promise<void>,
): Promise<boolean> {
  const steps = createSteps(say);
  const began = performance.now();
  say(`== ${row.join(", ")}`);
  await run(steps.step).catch(steps.thrown);
  const { passed, failed } = steps.counts();
  if (failed > 0) await printLogs().catch((error: unknown) => say(`no logs: ${error}`));
  total.add({ passed, failed });
  table.push([...row, String(passed), String(failed), ((performance.now() - began) / 1000).toFixed(0)]);
  return failed === 0;
}

function chosen<Name extends string>(kind: string, known: readonly Name[], name: string | undefined): readonly Name[] {
  if (name === undefined) return known;
  const found = known.filter((each) => each === name);
  if (found.length === 0) throw new Error(`no ${kind} ${name}; there are ${known.join(", ")}`);
  return found;
}

async function timed<Result>(what: string, action: () => Promise<Result>): Promise<Result> {
  const began = performance.now();
  const result = await action();
  say(`      ${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
  return result;
}

function printTable(): void {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  for (const row of table)
    say(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
