// Internal state shown by verbose status calls, for crictl inspect and inspectp.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Container } from "./container.ts";
import type { Environment } from "./environment.ts";
import type { Sandbox } from "./sandbox.ts";

const specLimit = 4 << 20;

export async function sandboxInfo(env: Environment, sandbox: Sandbox): Promise<object> {
  const { leftovers, timeline, netnsPath, monitorPid } = sandbox.view();
  return {
    pid: monitorPid,
    runtimeHandler: sandbox.handler.name,
    podDirectory: sandbox.podDirectory,
    cgroup: sandbox.cgroup,
    netns: netnsPath,
    // No sandbox process has its own spec; this is the part of other runtimes' spec that scripts look for.
    runtimeSpec: { linux: { namespaces: sandbox.ready ? namespacesOf(sandbox) : [] } },
    selinux: sandbox.labels ?? null,
    timeline,
    leftovers,
    resources: sandbox.resources.resources ?? sandbox.config.resources ?? null,
    overhead: sandbox.resources.overhead ?? sandbox.config.overhead ?? null,
    leases: env.network.leases().filter((lease) => lease.sandboxId === sandbox.id),
  };
}

export async function containerInfo(container: Container): Promise<object> {
  const { phase, bundle, cgroup, sandbox } = container;
  return {
    sandboxID: sandbox.id,
    pid: phase.state === "running" ? phase.pid : 0,
    runtimeHandler: sandbox.handler.name,
    bundle,
    cgroup,
    runtimeSpec: await runtimeSpec(bundle),
  };
}

/** The namespaces that the containers share, in OCI runtime spec form. */
function namespacesOf(sandbox: Sandbox): object[] {
  return Object.entries(sandbox.setup().pinned).map(([type, path]) => ({ type, path }));
}

/** config.json from disk; null once the bundle no longer exists. */
async function runtimeSpec(bundle: string): Promise<unknown> {
  try {
    const text = await readFile(join(bundle, "config.json"), "utf8");
    return text.length > specLimit ? null : JSON.parse(text);
  } catch {
    return null;
  }
}
