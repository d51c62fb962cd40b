// Checks that the host agrees with the daemon's answers, for each ready pod and each running container.

import { addressInside, type HostView } from "../../fixtures/host-view.ts";
import { type Answers, CONTAINER_RUNNING } from "./ledger.ts";

/** In the command line of every process that the clients exec; none may outlive its call. */
export const execMark = "4242";

/** One sentence for each disagreement. `daemonPid`: helper processes of the running daemon are allowed. */
export async function disagreements(
  directory: string,
  answers: Answers,
  host: HostView,
  daemonPid: number,
): Promise<string[]> {
  const ready = [...answers.pods].filter(([, pod]) => pod.ready).map(([id]) => id);
  const inside = await Promise.all(ready.map((id) => addressInside(directory, id)));
  return [
    ...ready.flatMap((id, index) => networkOf(id, answers.pods.get(id)?.ip ?? "", inside[index], host)),
    ...doubleAddresses(answers, ready),
    ...ready.flatMap((id) => {
      const monitors = host.monitors.get(id) ?? [];
      return monitors.length === 1 ? [] : [`pod ${id} is ready with ${monitors.length} monitors`];
    }),
    ...containers(answers, host),
    ...orphaned(new Set(ready), answers, host, daemonPid),
  ];
}

function networkOf(pod: string, ip: string, inside: string | undefined, host: HostView): string[] {
  const leases = [...host.leases].filter(([, owner]) => owner === pod).map(([address]) => address);
  const rules = host.rules.filter((rule) => rule.pod === pod);
  const wrong: string[] = [];
  if (ip === "") wrong.push("reports no address");
  if (inside === undefined) wrong.push("has no eth0 in its network namespace");
  else if (inside !== ip) wrong.push(`reports ${ip} and has ${inside === "" ? "no address" : inside} on its eth0`);
  if (leases.join(" ") !== ip) wrong.push(`reports ${ip} and holds the leases [${leases.join(" ")}]`);
  if (!rules.some(({ line }) => line.startsWith("-A POSTROUTING"))) wrong.push("has no masquerade rule");
  if (!rules.some(({ line }) => line.startsWith("-A CNI-DN-")))
    wrong.push(`has no rule for its host port, only [${rules.map(({ line }) => line).join("; ")}]`);
  return wrong.map((sentence) => `pod ${pod} is ready and ${sentence}`);
}

function doubleAddresses(answers: Answers, ready: readonly string[]): string[] {
  const holders = Map.groupBy(ready, (id) => answers.pods.get(id)?.ip ?? "");
  return [...holders].flatMap(([ip, ids]) =>
    ids.length > 1 && ip !== "" ? [`address ${ip} is used by ${ids.length} ready pods: ${ids.join(", ")}`] : [],
  );
}

function containers(answers: Answers, host: HostView): string[] {
  const processes = new Map(host.cgroups.map((cgroup) => [cgroup.container ?? "", cgroup.processes]));
  return [...answers.containers].flatMap(([id, { state, name }]) => {
    const own = processes.get(id) ?? [];
    const commands = own.map(({ pid, command }) => `${pid} ${command}`).join("; ");
    if (state === CONTAINER_RUNNING) {
      const wrong = own.length === 0 ? [`container ${name} ${id} is running without a process`] : [];
      const left = own.filter(({ command }) => command.includes(execMark));
      return left.length === 0
        ? wrong
        : [...wrong, `container ${name} ${id} has processes of finished execs: ${commands}`];
    }
    return own.length === 0 ? [] : [`container ${name} ${id} in state ${state} has processes: ${commands}`];
  });
}

function orphaned(ready: ReadonlySet<string>, answers: Answers, host: HostView, daemonPid: number): string[] {
  const { pods, containers } = answers;
  const orphans: string[] = [];
  for (const [id, pids] of host.monitors) if (!ready.has(id)) orphans.push(`monitor ${pids.join(" ")} of pod ${id}`);
  for (const { pod, line } of host.mounts) if (!ready.has(pod)) orphans.push(`mount ${line}`);
  for (const { pod, container, processes } of host.cgroups) {
    if (!ready.has(pod) || (container !== undefined && !containers.has(container)))
      orphans.push(`cgroup ${pod}/${container ?? ""} with ${processes.length} processes`);
  }
  for (const [address, pod] of host.leases) if (!ready.has(pod)) orphans.push(`lease of ${address} for ${pod}`);
  for (const { pod, line } of host.rules) if (!ready.has(pod)) orphans.push(`rule ${line} (pod ${pod || "unknown"})`);
  if (host.ports.length !== ready.size)
    orphans.push(`${host.ports.length} ports on the bridge for ${ready.size} ready pods`);
  for (const { pid, parent, line } of host.helpers) {
    if (parent !== daemonPid && !host.helpers.some((other) => other.pid === parent))
      orphans.push(`process ${pid} (parent ${parent}): ${line}`);
  }
  for (const id of host.podDirectories) if (!pods.has(id)) orphans.push(`directory of pod ${id}`);
  for (const id of host.layers) if (!containers.has(id)) orphans.push(`writable layer of container ${id}`);
  for (const name of host.staging) orphans.push(`staging directory ${name}`);
  return orphans.map((orphan) => `orphaned: ${orphan}`);
}
