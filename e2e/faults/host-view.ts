// What of one node is on the host, read from outside: /proc, /sys, mounts, links, rules, leases and the daemon's files.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { TestNode } from "../fixtures/node.ts";

const execute = promisify(execFile);

export interface HostView {
  /** Monitors by pod. */
  readonly monitors: ReadonlyMap<string, readonly number[]>;
  /** Below the pods' directories. */
  readonly mounts: readonly { readonly pod: string; readonly line: string }[];
  /** Pods' and containers' cgroups, those of one object in all hierarchies as one. */
  readonly cgroups: readonly Cgroup[];
  /** Pod by address, as host-local keeps it. */
  readonly leases: ReadonlyMap<string, string>;
  /** Names of the bridge's ports. */
  readonly ports: readonly string[];
  /** iptables' lines that are about a pod; `pod` is empty when the line does not say whose. */
  readonly rules: readonly { readonly pod: string; readonly line: string }[];
  /** Plugins and unpackers at work, with the process that started them. */
  readonly helpers: readonly { readonly pid: number; readonly parent: number; readonly line: string }[];
  readonly podDirectories: readonly string[];
  /** Ids of containers that have a writable layer. */
  readonly layers: readonly string[];
  readonly staging: readonly string[];
}

export interface Cgroup {
  readonly pod: string;
  /** Absent for the pod's own. */
  readonly container?: string;
  readonly processes: readonly { readonly pid: number; readonly command: string }[];
}

/** Files of the node, as the daemon's configuration in e2e/fixtures/daemon.ts places them. */
export function placesOf(directory: string) {
  return {
    pods: join(directory, "run", "pods"),
    records: join(directory, "root", "state"),
    networkLeases: join(directory, "root", "cni"),
    image: join(directory, "root", "image"),
    addresses: join(directory, "host-local", "keelson"),
    cgroup: basename(directory),
  };
}

/** `everSeen`: ids of all pods that there have been; empty chains of theirs have no other mark. */
export async function viewHost(node: TestNode, bridge: string, everSeen: ReadonlySet<string>): Promise<HostView> {
  const places = placesOf(node.directory);
  const [{ monitors, helpers }, mounts, cgroups, leases, ports, rules, podDirectories, layers, staging] =
    await Promise.all([
      processes(node.directory, places.pods),
      mountsBelow(places.pods),
      cgroupsBelow(places.cgroup),
      addresses(places.addresses),
      portsOf(bridge),
      rulesOf(`${node.prefix}.`, everSeen),
      list(places.pods),
      list(join(places.image, "containers")),
      list(join(places.image, "staging")),
    ]);
  return { monitors, helpers, mounts, cgroups, leases, ports, rules, podDirectories, layers, staging };
}

/** The IPv4 addresses of eth0 in the pod's network namespace; undefined when there is no such interface. */
export async function addressInside(directory: string, pod: string): Promise<string | undefined> {
  const path = join(placesOf(directory).pods, pod, "ns", "net");
  const args = [`--net=${path}`, "ip", "-j", "-4", "addr", "show", "dev", "eth0"];
  const { stdout } = await execute("nsenter", args, { timeout: 10_000 }).catch(() => ({ stdout: "" }));
  if (stdout === "") return undefined;
  const links: readonly { addr_info?: readonly { local?: string }[] }[] = JSON.parse(stdout);
  return links.flatMap(({ addr_info = [] }) => addr_info.map(({ local = "" }) => local)).join(" ");
}

async function processes(directory: string, pods: string) {
  const ofPods: { pod: string; pid: number; parent: number }[] = [];
  const helpers: { pid: number; parent: number; line: string }[] = [];
  const own = `${directory}/`;
  await Promise.all(
    (await readdir("/proc"))
      .filter((name) => /^\d+$/.test(name))
      .map(async (name) => {
        const [command, environment] = await Promise.all([
          readFile(`/proc/${name}/cmdline`, "latin1").catch(() => ""),
          readFile(`/proc/${name}/environ`, "latin1").catch(() => ""),
        ]);
        const pod = new RegExp(`\\0run\\0${pods}/([^/\\0]+)`).exec(command)?.[1];
        if (pod !== undefined) ofPods.push({ pod, pid: Number(name), parent: await parentOf(name) });
        const isPlugin = environment.includes("CNI_COMMAND=") && environment.includes(own);
        const isUnpacker = command.includes("keelson-unpack") && command.includes(own);
        if (!isPlugin && !isUnpacker) return;
        helpers.push({ pid: Number(name), parent: await parentOf(name), line: command.replaceAll("\0", " ").trim() });
      }),
  );
  // A shared PID namespace's init, and whatever else the monitor forked and has not executed yet, are its children.
  const first = ofPods.filter(({ parent }) => !ofPods.some(({ pid }) => pid === parent));
  const groups = Map.groupBy(first, ({ pod }) => pod);
  const monitors = new Map([...groups].map(([pod, group]) => [pod, group.map(({ pid }) => pid)]));
  return { monitors, helpers };
}

async function parentOf(pid: string): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^PPid:\s+(\d+)/m.exec(text)?.[1] ?? 0);
}

async function mountsBelow(pods: string) {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.flatMap((line) => {
    const point = line.split(" ")[4] ?? "";
    const pod = point.startsWith(`${pods}/`) ? point.slice(pods.length + 1).split("/")[0] : undefined;
    return pod === undefined ? [] : [{ pod, line: point }];
  });
}

/** Every hierarchy of v1, and v2. */
async function cgroupsBelow(name: string): Promise<Cgroup[]> {
  const roots = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => join(line.split(" ")[4] ?? "", name));
  const found = new Map<string, Cgroup & { processes: { pid: number; command: string }[] }>();
  const add = async (path: string, pod: string, container?: string) => {
    const key = `${pod}/${container ?? ""}`;
    const cgroup = found.get(key) ?? { pod, ...(container === undefined ? {} : { container }), processes: [] };
    found.set(key, cgroup);
    const pids = (await readFile(join(path, "cgroup.procs"), "utf8").catch(() => "")).split("\n").filter(Boolean);
    for (const pid of pids.map(Number)) {
      if (cgroup.processes.some((process) => process.pid === pid)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      // A zombie is gone but for its number.
      if (command !== "") cgroup.processes.push({ pid, command: command.replaceAll("\0", " ").trim() });
    }
  };
  for (const root of roots) {
    for (const pod of await directories(root)) {
      await add(join(root, pod), pod);
      for (const container of await directories(join(root, pod))) await add(join(root, pod, container), pod, container);
    }
  }
  return [...found.values()];
}

/** host-local keeps a file for each address, whose first line is the container id of CNI. */
async function addresses(directory: string): Promise<Map<string, string>> {
  const names = (await list(directory)).filter((name) => /^\d+\.\d+\.\d+\.\d+$/.test(name));
  const owners = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8").catch(() => undefined)));
  return new Map(
    names.flatMap((name, index) => {
      const owner = owners[index];
      return owner === undefined ? [] : [[name, owner.split(/\r?\n/)[0] ?? ""] as const];
    }),
  );
}

async function portsOf(bridge: string): Promise<string[]> {
  const { stdout } = await execute("ip", ["-j", "link", "show", "master", bridge], { timeout: 10_000 }).catch(() => ({
    stdout: "[]",
  }));
  const links: readonly { ifname: string }[] = JSON.parse(stdout === "" ? "[]" : stdout);
  return links.map(({ ifname }) => ifname);
}

async function rulesOf(prefix: string, everSeen: ReadonlySet<string>) {
  const { stdout } = await execute("iptables-save", [], { timeout: 20_000, maxBuffer: 64 << 20 });
  const owners = new Map([...everSeen].flatMap((pod) => chainsOf(pod).map((chain) => [chain, pod] as const)));
  return stdout.split("\n").flatMap((line) => {
    const named = /id: \\"([0-9a-f]+)\\"/.exec(line)?.[1];
    const chain = [...line.matchAll(/CNI-[0-9A-Za-z-]+/g)].map((match) => owners.get(match[0])).find(Boolean);
    const pod = chain ?? (named !== undefined && everSeen.has(named) ? named : undefined);
    if (pod !== undefined) return [{ pod, line }];
    return line.includes(prefix) ? [{ pod: named ?? "", line }] : [];
  });
}

/** Chains of bridge's masquerading and portmap's redirection (plugins/pkg/utils/utils.go, FormatChainName). */
function chainsOf(pod: string): string[] {
  const hash = createHash("sha512").update(`keelson${pod}`).digest("hex");
  return ["CNI-", "CNI-DN-", "CNI-SN-"].map((prefix) => `${prefix}${hash}`.slice(0, 28));
}

async function directories(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

function list(path: string): Promise<string[]> {
  return readdir(path).catch(() => []);
}
