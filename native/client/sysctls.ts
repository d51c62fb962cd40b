// Which sysctls a pod may set: those that live in a namespace of its own. The monitor holds to the same rule
// (native/monitor/pod/sysctl.cc), but only once the pod is being made; here a client hears of it before.
//
// Beyond these the monitor takes kernel.hostname and kernel.domainname, of the UTS namespace, from a config.json; a pod's
// hostname has a field of its own in CRI. sysctls.test.ts holds this table against the monitor's.

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
 * The dotted name; undefined for what is none. Either form of sysctl(8) is read: in the one with slashes dots are parts
 * of a word, of which the monitor takes none.
 */
export function sysctlName(text: string): string | undefined {
  return /^[\w-]+(\.[\w-]+)*$|^[\w-]+(\/[\w-]+)*$/.test(text) ? text.replaceAll("/", ".") : undefined;
}

/** Whether it is there only with an interface that the network's plugins make. */
export function isOfInterface(name: string): boolean {
  return /^net\.\w+\.(conf|neigh)\.(?!(all|default|lo)\.)/.test(name);
}

/** The namespace that a name ("net.ipv4.ip_forward") lives in; undefined for the whole host's. */
export function sysctlNamespace(name: string): "network" | "ipc" | undefined {
  if (name.startsWith("net.")) return "network";
  return name.startsWith("fs.mqueue.") || ipcSysctls.has(name) ? "ipc" : undefined;
}
