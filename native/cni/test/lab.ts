// A test bed for network plugins: a network namespace that represents the host, others for its pods, and plugins run as
// by a runtime. The real host's network is not affected.

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const built = fileURLToPath(new URL("../../build/", import.meta.url));

/** Directories of plugins: ours, ours with sanitizers, and Debian's package of the reference plugins. */
export const ours = path.join(built, "cni");
export const oursSanitized = path.join(built, "sanitize", "cni");
export const reference = "/usr/lib/cni";

export interface Call {
  readonly pod?: Pod;
  readonly directory?: string;
  /** In addition to what a runtime sets. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly exitCode: number | null;
  /** Its output, parsed; empty if it printed nothing. */
  readonly output: Readonly<Record<string, unknown>>;
  readonly stderr: string;
}

export interface Pod {
  readonly id: string;
  readonly namespace: string;
  readonly netns: string;
}

export interface Lab {
  /** The data directory of host-local. */
  readonly leases: string;
  /** Path of the namespace that represents the host. */
  readonly hostNetns: string;
  /** Runs a plugin in the host's namespace; a `config` that is text is passed unchanged. */
  call(plugin: string, command: string, config: object | string, call?: Call): Promise<Answer>;
  /** The same for calls that must succeed. */
  done(plugin: string, command: string, config: object | string, call?: Call): Promise<Answer["output"]>;
  pod(): Pod;
  removeNamespace(pod: Pod): void;
  /** Runs a program in the host's namespace, or in the pod's. */
  host(...words: string[]): string;
  inside(pod: Pod, ...words: string[]): string;
  /** Names of the pod's interfaces. */
  links(pod: Pod): string[];
  /** The host's nftables, as nft(8) lists them. */
  rules(): string;
  /** Names in the network's lease directory, except host-local's own files. */
  leased(network: string): string[];
  remove(): void;
}

export function openLab(): Lab {
  for (const directory of [ours, oursSanitized])
    if (!existsSync(directory)) throw new Error(`${directory} is missing: run make -C native all sanitize`);
  const tag = randomBytes(3).toString("hex");
  const leases = mkdtempSync(path.join(tmpdir(), "keelson-plugins-"));
  const namespaces: string[] = [];
  const addNamespace = (name: string): string => {
    execFileSync("ip", ["netns", "add", name]);
    namespaces.push(name);
    return `/run/netns/${name}`;
  };
  const within = (netns: string, words: readonly string[]) =>
    execFileSync("nsenter", [`--net=${netns}`, ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const host = addNamespace(`kc-${tag}-host`);
  within(host, ["ip", "link", "set", "lo", "up"]);

  const call = async (plugin: string, command: string, config: object | string, options: Call = {}) => {
    const { pod, directory = ours, environment = {} } = options;
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod?.id ?? "",
      CNI_NETNS: pod?.netns ?? "",
      CNI_IFNAME: "eth0",
      CNI_PATH: directory,
      PATH: process.env.PATH,
      ...environment,
    };
    const child = spawn("nsenter", [`--net=${host}`, path.join(directory, plugin)], { env });
    // A plugin that refuses early does not read all of its input.
    child.stdin.on("error", () => undefined);
    child.stdin.end(typeof config === "string" ? config : JSON.stringify(config));
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk));
    const exitCode = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { exitCode, output: stdout === "" ? {} : JSON.parse(stdout), stderr };
  };
  return {
    leases,
    hostNetns: host,
    call,
    async done(plugin, command, config, options) {
      const { exitCode, output, stderr } = await call(plugin, command, config, options);
      if (exitCode !== 0) throw new Error(`${plugin} ${command}: ${exitCode} ${JSON.stringify(output)} ${stderr}`);
      return output;
    },
    pod() {
      const namespace = `kc-${tag}-${namespaces.length}`;
      return { id: randomBytes(32).toString("hex"), namespace, netns: addNamespace(namespace) };
    },
    removeNamespace: (pod) => void execFileSync("ip", ["netns", "delete", pod.namespace]),
    host: (...words) => within(host, words),
    inside: (pod, ...words) => within(pod.netns, words),
    links: (pod) => JSON.parse(within(pod.netns, ["ip", "-j", "link"])).map((link: { ifname: string }) => link.ifname),
    rules: () => within(host, ["nft", "list", "ruleset"]),
    leased(network) {
      const directory = path.join(leases, network);
      if (!existsSync(directory)) return [];
      return readdirSync(directory)
        .filter((name) => name !== "lock" && !name.startsWith("last_reserved_ip"))
        .sort();
    },
    remove() {
      const there = new Set(readdirSync("/run/netns"));
      for (const name of namespaces.reverse()) if (there.has(name)) execFileSync("ip", ["netns", "delete", name]);
      rmSync(leases, { recursive: true, force: true });
    },
  };
}

/** A bridge of that name, which is the gateway for addresses from these subnets. */
export function bridgeConfig({ leases }: Lab, name: string, subnets: readonly string[], more: object = {}) {
  const ipam = { type: "host-local", dataDir: leases, ranges: subnets.map((subnet) => [{ subnet }]) };
  return { cniVersion: "1.0.0", name, type: "bridge", bridge: name, isGateway: true, ipam, ...more };
}

/** The same for one subnet, with masquerading. */
export function masqueradingBridge(lab: Lab, name: string, subnet: string, more: object = {}) {
  return bridgeConfig(lab, name, [subnet], { cniVersion: "1.1.0", ipMasq: true, ...more });
}

/** Maps the host's port 80 to a pod's port 80. */
export function portmapConfig(name: string, more: object = {}) {
  const portMappings = [{ hostPort: 80, containerPort: 80, protocol: "TCP" }];
  return { cniVersion: "1.1.0", name, type: "portmap", runtimeConfig: { portMappings }, ...more };
}
