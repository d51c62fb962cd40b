// Exits of containers whose monitor died: taken from the monitor's exit records where they exist, otherwise unknown.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ExitedRun, parseExited, parseObject } from "../native/index.ts";
import { exitedPhase } from "./container.ts";
import { applyExit, applyUnseenExit } from "./container-life.ts";
import type { Environment } from "./environment.ts";
import type { Sandbox } from "./sandbox.ts";

export async function endContainers(env: Environment, sandbox: Sandbox): Promise<void> {
  const alive = [...sandbox.containers.values()].filter(({ phase }) => phase.state !== "exited");
  await Promise.all(
    alive.map(async (container) => {
      const exit = await exitOnDisk(sandbox.podDirectory, container.id);
      if (exit === undefined) applyUnseenExit(env, container);
      else applyExit(env, container, exitedPhase(exit));
    }),
  );
}

/** Reads exits/<id>.json, a ContainerState of PROTOCOL.md. */
async function exitOnDisk(podDirectory: string, id: string): Promise<ExitedRun | undefined> {
  try {
    const record = parseObject(await readFile(join(podDirectory, "exits", `${id}.json`), "utf8"));
    return record && parseExited(record);
  } catch {
    return undefined;
  }
}
