// The sandbox's files in its pod directory: sandbox.json for the monitor; then resolv.conf and hostname for the
// containers, on the size-limited file system that the monitor mounts there.
// Sources: resolv.conf(5); native/PROTOCOL.md.

import { dirname, join } from "node:path";
import type { DnsConfig } from "../cni/types.ts";
import {
  type CgroupTree,
  changeFiles,
  isErrno,
  isOfInterface,
  monitorHierarchies,
  readFiles,
} from "../native/index.ts";
import { isScoped } from "./cgroup-driver.ts";
import { type Sandbox, sandboxFiles } from "./sandbox.ts";
import { hostRoot, monitorMappings, userMappings } from "./user-namespace.ts";

/** Creates the pod directory with the files that the monitor reads. */
export async function writeMonitorFiles(sandbox: Sandbox, cgroups: CgroupTree): Promise<void> {
  const { podDirectory, netnsPath } = sandbox;
  await changeFiles([
    ...(netnsPath === ""
      ? []
      : [{ kind: "directory", path: dirname(netnsPath), mode: 0o755, mayExist: true } as const]),
    { kind: "directory", path: dirname(podDirectory), mode: 0o711, mayExist: true },
    { kind: "directory", path: podDirectory, mode: 0o700 },
    { kind: "directory", path: join(podDirectory, "containers"), mode: 0o700 },
    {
      kind: "file",
      path: join(podDirectory, "sandbox.json"),
      content: JSON.stringify(monitorSandbox(sandbox, cgroups)),
      mode: 0o600,
    },
  ]);
}

/** Requires a running monitor. */
export async function writeContainerFiles(sandbox: Sandbox, hostResolvConf: string): Promise<void> {
  const files = sandboxFiles(sandbox.podDirectory);
  const { uid, gid } = hostRoot(userMappings(sandbox.config.security.namespaces));
  const shown = { kind: "file", mode: 0o644, isModeExact: true, uid, gid } as const;
  await changeFiles([
    { ...shown, path: files.resolvConf, content: await resolvConf(sandbox.config.dns, hostResolvConf) },
    { ...shown, path: files.hostname, content: `${sandbox.hostname}\n` },
  ]);
}

/** Without DNS settings in the request, a pod gets the host's resolv.conf. */
async function resolvConf(dns: DnsConfig | undefined, hostResolvConf: string): Promise<string | Buffer> {
  const lines = dns === undefined ? [] : resolvConfLines(dns);
  if (lines.length > 0) return `${lines.join("\n")}\n`;
  const [host] = await readFiles([hostResolvConf]);
  if (host !== undefined && "bytes" in host) return host.bytes;
  if (isErrno(host?.error, "ENOENT")) return "";
  throw host?.error;
}

function resolvConfLines({ servers, searches, options }: DnsConfig): string[] {
  return [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(" ")}`] : []),
  ];
}

/** The content of sandbox.json, as defined in PROTOCOL.md. */
function monitorSandbox(sandbox: Sandbox, cgroups: CgroupTree): object {
  const { network, ipc, pid } = sandbox.config.security.namespaces;
  const scope = (mode: "pod" | "node") => (mode === "node" ? "host" : "pod");
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
    ...(sandbox.netnsPath === "" ? {} : { netns: sandbox.netnsPath }),
    ...(user === undefined ? {} : { user: monitorMappings(user) }),
    sysctls: Object.fromEntries([...sandbox.config.sysctls].filter(([name]) => !isOfInterface(name))),
    shm_size: 64 << 20,
    cgroup_hierarchies: monitorHierarchies(cgroups),
    ...(sandbox.labels === undefined
      ? {}
      : { process_label: sandbox.labels.process, mount_label: sandbox.labels.mount }),
    ...(isScoped(sandbox)
      ? { cgroup: "", own_cgroup: false, scope: sandbox.cgroup }
      : { cgroup: sandbox.cgroup, own_cgroup: sandbox.ownsCgroup }),
  };
}
