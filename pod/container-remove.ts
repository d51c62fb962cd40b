// RemoveContainer: removes everything of a container except its log, the record last.

import { KeelsonError, settled } from "../native/index.ts";
import type { Container } from "./container.ts";
import { stopContainer } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { containerRecord } from "./sandbox-record.ts";

/**
 * Kills the container if it is running, then removes it. After a daemon crash the next daemon continues the removal.
 */
export async function removeContainer(env: Environment, container: Container): Promise<void> {
  const { sandbox, id } = container;
  await stopContainer(env, container, 0);
  container.removing = true;
  await recordRemoval(env, container);
  await sandbox.monitor?.delete(id, { timeoutMs: limits.call * 2 }).catch(unlessMissing);
  await settled([env.host.removeTree(container.bundle), env.images.removeSnapshot(id)]);
  await env.records.remove(id);
  sandbox.containers.delete(id);
}

/** A full disk must not prevent a removal: recovery then relies on what the monitor still knows. */
async function recordRemoval(env: Environment, container: Container): Promise<void> {
  await env.records.save(containerRecord(container)).catch((error: unknown) => {
    env.log("warn", `container ${container.id}: its removal could not be recorded, but continues: ${String(error)}`);
  });
}

/** A container that the monitor does not know is already removed there. */
function unlessMissing(error: unknown): void {
  if (error instanceof KeelsonError && error.code === "NotFound") return;
  throw error;
}
