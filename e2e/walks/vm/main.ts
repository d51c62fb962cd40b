// `npm run e2e:vm`: Keelson's package on typical hosts, Debian 12 and 13 with cgroup v2, systemd and AppArmor, as QEMU
// guests without KVM. The first run builds the guests from Debian's packages: two minutes each.
//
// The first three options can be repeated:
//   --guest NAME   debian12, debian13 or selinux; all when absent
//   --driver NAME  cgroup driver, cgroupfs or systemd; both when absent
//   --suite NAME   smoke, layers, limits, apparmor, selinux, systemd, critest or package; all when absent
//   --whole        all of critest, not a short list: 10 to 20 minutes for each guest and driver
//   --reboots N    instead of suites: N reboots, half soft, half hard, with a persistent disk
//   --power-cuts N instead of suites: power cuts during pulls and starts, with a persistent disk
//   --hardships    instead of suites: the clock an hour off, a full disk at boot, a full /run
//   --short        Debian 13 with the systemd driver: smoke, and a few specs of critest
// Ends with a table, and "N passed, N failed". The last console log of each guest is kept in vm/ in the tool cache.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildBusyboxImage } from "../../fixtures/busybox-image.ts";
import { createSteps, type Steps } from "../../fixtures/steps.ts";
import { criTool, critest as critestProgram, toolsDirectory } from "../../fixtures/tools.ts";
import { buildStandIns, imageByDigest, pushStandIns } from "../critest/images.ts";
import { apparmor } from "./apparmor.ts";
import { makeCargo } from "./cargo.ts";
import { critest, type Specs } from "./critest.ts";
import { guestImage, guestNames } from "./guest-image.ts";
import { hardships } from "./hardships.ts";
import { crictlOf, drivers, install, log } from "./keelson.ts";
import { buildLayeredImage, layers } from "./layers.ts";
import { limits } from "./limits.ts";
import { bootMachine, describeBoot, endOf, type MachineParts } from "./machine.ts";
import { makeNode, type Node } from "./node.ts";
import { installed } from "./package.ts";
import { busybox } from "./pods.ts";
import { imagesToPull, powerCuts, pushImages, reboots } from "./power.ts";
import { qemuPackage } from "./qemu.ts";
import { fillRegistry } from "./registry.ts";
import type { Scene } from "./scene.ts";
import { selinux } from "./selinux.ts";
import { bringUp, smoke } from "./smoke.ts";
import { systemdDriver } from "./systemd-driver.ts";

const { values: options } = parseArgs({
  options: {
    guest: { type: "string", multiple: true },
    driver: { type: "string", multiple: true },
    suite: { type: "string", multiple: true },
    whole: { type: "boolean", default: false },
    reboots: { type: "string" },
    "power-cuts": { type: "string" },
    hardships: { type: "boolean", default: false },
    short: { type: "boolean", default: false },
  },
});
const specs: Specs = options.short ? "few" : options.whole ? "all" : "chosen";

/** The suites for a freshly booted guest, in this order. */
const suites: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  smoke,
  layers,
  limits,
  apparmor,
  selinux,
  systemd: systemdDriver,
  critest: (scene) => critest(scene, specs),
  package: installed,
};

/** Run instead of the suites, on a node that boots repeatedly from its own disk. */
const toPull = await imagesToPull(6);
const keptDiskSuites: Readonly<Record<string, (node: Node) => Promise<void>>> = {
  ...(options.reboots === undefined ? {} : { reboots: (node) => reboots(node, count(options.reboots)) }),
  ...(options.hardships ? { hardships } : {}),
  ...(options["power-cuts"] === undefined
    ? {}
    : { "power cuts": (node) => powerCuts(node, toPull, count(options["power-cuts"])) }),
};

const cache = toolsDirectory(process.env);
const total = createSteps(say);
const table = [["guest", "driver", "suite", "passed", "failed", "seconds"]];

const tools = [await criTool("crictl", cache), await critestProgram(cache, imageByDigest.digest)] as const;
const [crictl, critestTool] = tools;
if (process.arch !== "x64") say("skipped: the guests are x86-64 machines, and this build is of another architecture");
else if (crictl.kind === "unavailable") say(`skipped: ${crictl.reason}`);
else if (critestTool.kind === "unavailable") say(`skipped: ${critestTool.reason}`);
else {
  await walk({ crictl: crictl.path, critest: critestTool.path }).catch(total.thrown);
  printTable();
  process.exitCode = total.conclude() ? 0 : 1;
}

async function walk(programs: Readonly<Record<string, string>>): Promise<void> {
  const names = chosen("guest", guestNames, options.short ? ["debian13"] : options.guest);
  const chosenDrivers = chosen("driver", drivers, options.short ? ["systemd"] : options.driver);
  const known = Object.keys(suites).filter((name) => !options.short || name === "smoke" || name === "critest");
  const chosenSuites = chosen("suite", known, options.suite);
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "keelson-vm-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const qemu = await timed("QEMU", () => qemuPackage(cache));
  const cargo = await timed("a disk with the package, tools and images", () =>
    makeCargo(directory, {
      programs,
      fill: async (root) => {
        await buildBusyboxImage(join(root, "busybox"), busybox);
        if (chosenSuites.includes("layers")) await buildLayeredImage(root);
        await fillRegistry(root, async (registry) => {
          if ("power cuts" in keptDiskSuites) await pushImages(registry, toPull);
          else if (chosenSuites.includes("critest")) await pushStandIns(registry, await buildStandIns(cache));
        });
      },
    }),
  );
  for (const name of names) {
    const image = await timed(`the guest ${name}`, () => guestImage(name, cache));
    const consoleLog = join(cache, "vm", `${name}-console.log`);
    const parts = { qemu, image, disk: image.disk, cargo, directory, consoleLog };
    for (const driver of chosenDrivers) {
      if (Object.keys(keptDiskSuites).length === 0) await inGuest(driver, parts, chosenSuites);
      for (const suite of Object.keys(keptDiskSuites)) await onKeptDisk(driver, parts, suite);
    }
  }
}

/** Runs all chosen suites in one boot; a failure ends its suite, and the next suites still run. */
async function inGuest(driver: Scene["driver"], parts: MachineParts, chosenSuites: readonly string[]): Promise<void> {
  await using undo = new AsyncDisposableStack();
  let guest: Omit<Scene, "step" | "add"> | undefined;
  const printLogs = async () => {
    print(`the console ends:\n${await endOf(parts.consoleLog)}`);
    if (guest !== undefined) print(`keelson's log ends:\n${await log(guest.machine)}`);
  };
  const { name } = parts.image;
  const isUp = await counted([name, driver, "boot"], printLogs, async ({ step }) => {
    const machine = await step(`${name} boots`, () => bootMachine(parts));
    undo.defer(() => machine.cut());
    guest = { machine, crictl: crictlOf(machine), driver, print };
    print(describeBoot(machine));
    await install(machine, driver);
    await bringUp({ ...guest, step });
  });
  if (!isUp) return;
  for (const suite of chosenSuites) {
    if (suite === "systemd" && driver !== "systemd") continue;
    if (suite === (name === "selinux" ? "apparmor" : "selinux")) continue;
    await counted([name, driver, suite], printLogs, async ({ step, add }) => {
      if (guest !== undefined) await suites[suite]?.({ ...guest, step, add });
    });
  }
}

async function onKeptDisk(driver: Scene["driver"], parts: MachineParts, suite: string): Promise<void> {
  let node: Node | undefined;
  const printLogs = async () => {
    print(`the console ends:\n${await endOf(parts.consoleLog)}`);
    if (node !== undefined) print(`keelson's log ends:\n${await log(node.machine)}`);
  };
  await using undo = new AsyncDisposableStack();
  await counted([parts.image.name, driver, suite], printLogs, async ({ step }) => {
    node = undo.use(await makeNode(parts, driver, { step, print }));
    await keptDiskSuites[suite]?.(node);
  });
}

/** Runs it as a row of the table and returns whether everything passed. On failure, prints the guest's logs. */
async function counted(
  row: readonly string[],
  printLogs: () => Promise<void>,
  run: (steps: Pick<Steps, "step" | "add">) => Promise<void>,
): Promise<boolean> {
  const steps = createSteps(say);
  const began = performance.now();
  say(`== ${row.join(", ")}`);
  await run(steps).catch(steps.thrown);
  const { passed, failed } = steps.counts();
  if (failed > 0) await printLogs().catch((error: unknown) => say(`no logs: ${error}`));
  total.add({ passed, failed });
  table.push([...row, String(passed), String(failed), ((performance.now() - began) / 1000).toFixed(0)]);
  return failed === 0;
}

/** The requested names, in the order of `known`; all when none was requested. */
function chosen<Name extends string>(
  kind: string,
  known: readonly Name[],
  wished: readonly string[] | undefined,
): readonly Name[] {
  const unknown = wished?.find((name) => !known.some((each) => each === name));
  if (unknown !== undefined) throw new Error(`unknown ${kind} ${unknown}; choose from ${known.join(", ")}`);
  return known.filter((name) => wished === undefined || wished.includes(name));
}

function count(text: string | undefined): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new Error(`${text} is not a positive integer`);
  return number;
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

function print(text: string): void {
  say(text.replaceAll(/^/gm, "      "));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
