// Which sysctls a pod may set: those that are scoped to its own namespaces. The monitor enforces the same rule
// (native/monitor/pod/sysctl.cc), but only while the pod is being created; checking here rejects the request earlier.
//
// In addition the monitor accepts kernel.hostname and kernel.domainname, of the UTS namespace, in a config.json; CRI
// has a separate field for a pod's hostname. sysctls.test.ts checks that this table matches the monitor's.

export const ipcSysctls: ReadonlySet<string> = new Set([
  "kernel.msgmax",
  "kernel.msgmnb",
  "kernel.msgmni",
  "kernel.sem",
  "kernel.shmall",
  "kernel.shmmax",
  "kernel.shmmni",
  "kernel.shm_rmid_forced",
  "kernel.msg_next_id",
  "kernel.sem_next_id",
  "kernel.shm_next_id",
]);

/**
 * The name in dotted form; undefined if it is not a sysctl name. Both forms of sysctl(8) are accepted, but in the form
 * with slashes a component must not contain dots, which the monitor does not accept.
 */
export function sysctlName(text: string): string | undefined {
  return /^[\w-]+(\.[\w-]+)*$|^[\w-]+(\/[\w-]+)*$/.test(text) ? text.replaceAll("/", ".") : undefined;
}

/** Whether it belongs to a network interface, and so exists only once the CNI plugins have created that. */
export function isOfInterface(name: string): boolean {
  return /^net\.\w+\.(conf|neigh)\.(?!(all|default|lo)\.)/.test(name);
}

/** The namespace that a sysctl ("net.ipv4.ip_forward") is scoped to; undefined if it is host-wide. */
export function sysctlNamespace(name: string): "network" | "ipc" | undefined {
  if (name.startsWith("net.")) return "network";
  return name.startsWith("fs.mqueue.") || ipcSysctls.has(name) ? "ipc" : undefined;
}
