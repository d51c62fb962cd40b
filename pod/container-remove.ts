// RemoveContainer: everything of a container but its log goes, its record last.

import { KeelsonError, settled } from "../native/index.ts";
import type { Container } from "./container.ts";
import { stopContainer } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { containerRecord } from "./sandbox-record.ts";

/** Kills what runs, then removes. Cut short by the daemon's death, the next one goes on with it. */
export async function removeContainer(env: Environment, container: Container): Promise<void> {
  const { sandbox, id } = container;
  await stopContainer(env, container, 0);
  container.removing = true;
  await writeDown(env, container);
  await sandbox.monitor?.delete(id, { timeoutMs: limits.call * 2 }).catch(unlessMissing);
  await settled([env.host.removeTree(container.bundle), env.images.removeSnapshot(id)]);
  await env.records.remove(id);
  sandbox.containers.delete(id);
}

/** A full disk must not keep anything from being removed: then recovery goes by what the monitor still knows. */
async function writeDown(env: Environment, container: Container): Promise<void> {
  await env.records.save(containerRecord(container)).catch((error: unknown) => {
    env.log("warn", `container ${container.id}: its removal goes on without a record of it: ${String(error)}`);
  });
}

/** What the monitor does not know is gone already. */
function unlessMissing(error: unknown): void {
  if (error instanceof KeelsonError && error.code === "NotFound") return;
  throw error;
}
