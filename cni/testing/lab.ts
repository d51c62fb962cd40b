// An isolated network for a test, with its own directories, namespaces, subnet and bridge.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Log, loadHost } from "../../native/index.ts";
import { type NetworkOptions, openNetwork } from "../network.ts";
import type { Network, PodNetwork } from "../types.ts";
import { takeSubnet } from "./subnet.ts";

const execute = promisify(execFile);
/** Where Debian's package containernetworking-plugins installs its plugins. */
export const debianPlugins = "/usr/lib/cni";

export interface Lab extends AsyncDisposable {
  readonly confDir: string;
  readonly binDir: string;
  readonly stateDir: string;
  readonly runDir: string;
  /** The data directory of host-local. */
  readonly dataDir: string;
  readonly bridge: string;
  /** For example "10.91.7" for the subnet 10.91.7.0/24. */
  readonly prefix: string;
  readonly log: Log;
  /** Everything logged so far. */
  readonly logged: readonly string[];
  /** A network on the lab's directories, closed with the lab. */
  open(options?: Partial<NetworkOptions>): Promise<Network>;
  writeConfig(fileName: string, content: object | string): Promise<void>;
  /** Links Debian's plugins into binDir. */
  install(...types: readonly string[]): Promise<void>;
  uninstall(type: string): Promise<void>;
  /** Creates a plugin that records its call and then runs these shell lines. */
  script(type: string, body: string): Promise<void>;
  /** The calls of script plugins so far, in order. */
  calls(): Promise<readonly ScriptCall[]>;
  /** A pod with a fresh network namespace. */
  pod(overrides?: Partial<PodNetwork>): Promise<PodNetwork>;
  removeNamespace(pod: PodNetwork): Promise<void>;
  /** The lab's bridge + host-local, followed by more plugins; the bridge's own settings can be overridden. */
  bridgeNetwork(more?: readonly object[], bridge?: object): object;
  /** Addresses that host-local holds reserved. */
  reserved(): Promise<readonly string[]>;
  /** Traces of this lab on the host: links on its bridge, rules with its subnet or its pods. */
  traces(): Promise<readonly string[]>;
}

export interface ScriptCall {
  readonly type: string;
  readonly command: string;
  readonly environment: ReadonlyMap<string, string>;
  readonly stdin: string;
}

/** A result that scripts print for ADD. */
export function addressResult(address: string, cniVersion = "1.0.0"): string {
  return JSON.stringify({
    cniVersion,
    interfaces: [{ name: "eth0", sandbox: "/somewhere" }],
    ips: [{ address, interface: 0 }],
  });
}

export async function run(file: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execute(file, args, { timeout: 20_000, maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}

export async function openLab(): Promise<Lab> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-cni-"));
  const tag = randomBytes(3).toString("hex");
  const subnet = await takeSubnet();
  const { prefix } = subnet;
  const bridge = `kt${tag}`;
  const [confDir, binDir, stateDir, runDir, dataDir, callDir] = ["net.d", "bin", "state", "run", "data", "calls"].map(
    (name) => join(directory, name),
  ) as [string, string, string, string, string, string];
  await Promise.all([confDir, binDir, stateDir, runDir, callDir].map((path) => mkdir(path)));
  const pods: PodNetwork[] = [];
  const networks: Network[] = [];
  const log: Log = (level, message, fields) => lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
  let namespaces = 0;
  const lines: string[] = [];
  const removeNamespace = async (pod: PodNetwork): Promise<void> => {
    await run("ip", "netns", "delete", nameOf(pod)).catch(() => "");
  };
  return {
    confDir,
    binDir,
    stateDir,
    runDir,
    dataDir,
    bridge,
    prefix,
    log,
    logged: lines,
    async open(options = {}) {
      const network = await openNetwork({
        confDir,
        binDirs: [binDir],
        stateDir,
        runDir,
        host: loadHost(),
        log,
        ...options,
      });
      networks.push(network);
      return network;
    },
    async writeConfig(fileName, content) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await writeFile(join(confDir, fileName), text);
    },
    async install(...types) {
      for (const type of types) await symlink(join(debianPlugins, type), join(binDir, type));
    },
    async uninstall(type) {
      await rm(join(binDir, type));
    },
    async script(type, body) {
      const path = join(binDir, type);
      await rm(path, { force: true });
      // One directory for each call, named by its time, so that calls sort in order.
      const preamble = [
        "#!/bin/sh",
        `call=$(mktemp -d ${callDir}/$(date +%s%N).XXXXXX)`,
        `echo ${type} > $call/type`,
        "env > $call/env",
        "cat > $call/stdin",
      ];
      await writeFile(path, `${[...preamble, body].join("\n")}\n`, { mode: 0o755 });
    },
    async calls() {
      const names = (await readdir(callDir)).sort();
      return Promise.all(names.map((name) => readCall(join(callDir, name))));
    },
    async pod(overrides = {}) {
      const sandboxId = randomBytes(32).toString("hex");
      namespaces += 1;
      const name = `kt-${tag}-${namespaces}`;
      await run("ip", "netns", "add", name);
      // As the monitor does.
      await run("ip", "-n", name, "link", "set", "lo", "up");
      const pod: PodNetwork = {
        sandboxId,
        netns: `/run/netns/${name}`,
        name: "web-0",
        namespace: "default",
        uid: "0b1c3d5e-0000-4000-8000-000000000001",
        portMappings: [],
        dns: { servers: [], searches: [], options: [] },
        cgroupParent: "",
        annotations: new Map(),
        ...overrides,
      };
      pods.push(pod);
      return pod;
    },
    removeNamespace,
    bridgeNetwork: (more = [], overrides = {}) => ({
      cniVersion: "1.0.0",
      name: `lab-${tag}`,
      plugins: [
        {
          type: "bridge",
          bridge,
          isGateway: true,
          ipMasq: true,
          ipam: {
            type: "host-local",
            dataDir,
            ranges: [[{ subnet: `${prefix}.0/24` }]],
            routes: [{ dst: "0.0.0.0/0" }],
          },
          ...overrides,
        },
        ...more,
      ],
    }),
    async reserved() {
      const names = await readdir(join(dataDir, `lab-${tag}`)).catch(() => []);
      return names.filter((name) => name !== "lock" && !name.startsWith("last_reserved_ip")).sort();
    },
    async traces() {
      const ids = pods.map(({ sandboxId }) => sandboxId.slice(0, 20));
      const links = (await run("ip", "-o", "link")).split("\n").filter((line) => line.includes(`master ${bridge}`));
      const rules = (await run("iptables-save")).split("\n");
      const nft = (await run("nft", "list", "ruleset")).split("\n");
      const named = [...rules, ...nft].filter(
        (line) => line.includes(`${prefix}.`) || ids.some((id) => line.includes(id)),
      );
      return [...links, ...named];
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(networks.map((network) => network.close()));
      for (const name of await readdir(join(runDir, "netns")).catch(() => []))
        await run("umount", join(runDir, "netns", name)).catch(() => "");
      await Promise.all(pods.map(removeNamespace));
      await run("ip", "link", "delete", bridge).catch(() => "");
      await dropRules(`lab-${tag}`);
      subnet[Symbol.dispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Name of the pod's namespace for `ip -n`. */
export function nameOf(pod: PodNetwork): string {
  return pod.netns.slice("/run/netns/".length);
}

/** Removes the rules that a test left, for example because its DEL failed: a comment in each names the network. */
async function dropRules(network: string): Promise<void> {
  await dropMasquerade(network);
  const rules = (await run("iptables-save", "-t", "nat"))
    .split("\n")
    .filter((line) => line.includes(`\\"${network}\\"`));
  const chains = new Set(rules.map((line) => line.split(" ")[1]).filter((chain) => chain?.startsWith("CNI-")));
  for (const rule of rules) await run("sh", "-c", `iptables -w -t nat ${rule.replace("-A", "-D")}`);
  for (const chain of chains) await run("iptables", "-w", "-t", "nat", "-X", String(chain));
}

/** Removes the masquerade rules of Keelson's plugins. */
async function dropMasquerade(network: string): Promise<void> {
  const chain = ["inet", "cni_plugins_masquerade", "masq_checks"];
  const listed = await run("nft", "-a", "list", "chain", ...chain).catch(() => "");
  for (const line of listed.split("\n").filter((one) => one.includes(`, net: ${network}, `))) {
    const [, handle = ""] = / # handle (\d+)$/.exec(line) ?? [];
    await run("nft", "delete", "rule", ...chain, "handle", handle);
  }
}

/** Waits until the condition holds, at most `deadlineMs`. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>, deadlineMs = 10_000) {
  const until = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > until) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function readCall(directory: string): Promise<ScriptCall> {
  const read = (name: string): Promise<string> => readFile(join(directory, name), "utf8").catch(() => "");
  const variables = (await read("env"))
    .split("\n")
    .map((line) => /^(\w+)=(.*)$/.exec(line))
    .flatMap((match) => (match?.[1] === undefined ? [] : [[match[1], match[2] ?? ""] as const]));
  const environment = new Map(variables);
  return {
    type: (await read("type")).trim(),
    command: environment.get("CNI_COMMAND") ?? "",
    environment,
    stdin: await read("stdin"),
  };
}
