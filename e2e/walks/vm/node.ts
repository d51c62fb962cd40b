// A node whose disk persists across boots.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Steps } from "../../fixtures/steps.ts";
import { answers, crictlOf, type Driver, install } from "./keelson.ts";
import { bootMachine, describeBoot, type Machine, type MachineParts } from "./machine.ts";
import { bringUp } from "./smoke.ts";

export interface Node extends Pick<Steps, "step"> {
  /** The current boot. */
  readonly machine: Machine;
  print(line: string): void;
  /** Boots again from the same disk; the previous boot must have ended. Resolves when Keelson answers. */
  boot(changes?: Pick<MachineParts, "clock">): Promise<Machine>;
}

/** Creates a node from a copy of the guest's disk, installs Keelson on it and starts it. */
export async function makeNode(
  parts: MachineParts,
  driver: Driver,
  { step, print }: Pick<Node, "step" | "print">,
): Promise<Node & AsyncDisposable> {
  const disk = join(parts.directory, "kept.img");
  await promisify(execFile)("cp", ["--sparse=always", parts.image.disk, disk]);
  let machine = await step(`${parts.image.name} boots from its own disk`, () => bootMachine({ ...parts, disk }));
  try {
    await install(machine, driver);
    await bringUp({ machine, crictl: crictlOf(machine), driver, step, print });
  } catch (error) {
    await machine.cut();
    throw error;
  }
  return {
    get machine() {
      return machine;
    },
    step,
    print,
    boot: async (changes = {}) => {
      machine = await bootMachine({ ...parts, ...changes, disk });
      const from = performance.now();
      await answers(machine);
      print(`${describeBoot(machine)}; keelson answers ${((performance.now() - from) / 1000).toFixed(1)} s later`);
      return machine;
    },
    [Symbol.asyncDispose]: () => machine.cut(),
  };
}
