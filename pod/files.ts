// The sandbox's files in its pod directory: sandbox.json for the monitor; then, on the bounded file system that the
// monitor has mounted there, resolv.conf and hostname for its containers.
// Sources: resolv.conf(5); native/PROTOCOL.md.

import { chmod, chown, copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { DnsConfig } from "../cni/types.ts";
import { settled, writeFile } from "../native/index.ts";
import { type Sandbox, sandboxFiles } from "./sandbox.ts";
import { hostRoot, monitorMappings, userMappings } from "./user-namespace.ts";

export async function writeMonitorFiles(sandbox: Sandbox): Promise<void> {
  await mkdir(join(sandbox.podDirectory, "containers"), { recursive: true, mode: 0o700 });
  const path = join(sandbox.podDirectory, "sandbox.json");
  await writeFile(path, JSON.stringify(monitorSandbox(sandbox)), { mode: 0o600 });
}

/** Once the monitor is there. */
export async function writeContainerFiles(sandbox: Sandbox, hostResolvConf: string): Promise<void> {
  const files = sandboxFiles(sandbox.podDirectory);
  await settled([
    writeResolvConf(files.resolvConf, sandbox.config.dns, hostResolvConf),
    writeFile(files.hostname, `${sandbox.hostname}\n`, { mode: 0o644 }),
  ]);
  const root = hostRoot(userMappings(sandbox.config.security.namespaces));
  if (root.uid !== 0 || root.gid !== 0) {
    await Promise.all([files.resolvConf, files.hostname].map((path) => chown(path, root.uid, root.gid)));
  }
}

/** Without DNS settings in the request a pod resolves as its host does. */
async function writeResolvConf(path: string, dns: DnsConfig | undefined, hostResolvConf: string): Promise<void> {
  const lines = dns === undefined ? [] : resolvConfLines(dns);
  if (lines.length > 0) await writeFile(path, `${lines.join("\n")}\n`);
  else {
    await copyFile(hostResolvConf, path).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      await writeFile(path, "");
    });
  }
  await chmod(path, 0o644);
}

function resolvConfLines({ servers, searches, options }: DnsConfig): string[] {
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(" ")}`] : []),
  ];
}

/** sandbox.json, as PROTOCOL.md has it. */
function monitorSandbox(sandbox: Sandbox): object {
  const { network, ipc, pid } = sandbox.config.security.namespaces;
  const scope = (mode: string) => (mode === "node" ? "host" : "pod");
  const user = userMappings(sandbox.config.security.namespaces);
  return {
    version: 1,
    id: sandbox.id,
    hostname: sandbox.hostname,
    namespaces: {
      net: scope(network),
      ipc: scope(ipc),
      uts: scope(network),
      pid: pid === "pod" ? "pod" : pid === "node" ? "host" : "container",
    },
    ...(user === undefined ? {} : { user: monitorMappings(user) }),
    sysctls: Object.fromEntries(sandbox.config.sysctls),
    shm_size: 64 << 20,
    cgroup: sandbox.cgroup,
    own_cgroup: sandbox.ownsCgroup,
  };
}
