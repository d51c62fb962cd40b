// How names are resolved in a pod: the DNS configuration it is given, and its /etc/hosts.

import { readFile } from "node:fs/promises";
import type { runtime } from "../api/generated/messages.js";
import type { PodSpec } from "./supported.ts";

/** The host's resolv.conf, and the one with the servers behind systemd-resolved, which answers on loopback. */
const hostFiles = { own: "/etc/resolv.conf", behindStub: "/run/systemd/resolve/resolv.conf" };

/**
 * Source: the reference of dnsPolicy. There is no cluster DNS here, so that ClusterFirst is the host's configuration,
 * as with a kubelet that was given none.
 */
export async function dnsConfig(spec: PodSpec, files = hostFiles): Promise<runtime.v1.DNSConfig.$Properties> {
  const base = spec.dnsPolicy === "None" ? parseResolvConf("") : await hostConfig(spec, files);
  const { nameservers = [], searches = [], options = [] } = spec.dnsConfig ?? {};
  const own = options.map(({ name = "", value }) => (value === undefined ? name : `${name}:${value}`));
  const named = new Set(own.map(optionName));
  return {
    servers: unique([...base.servers, ...nameservers]),
    searches: unique([...base.searches, ...searches]),
    options: [...base.options.filter((option) => !named.has(optionName(option))), ...own],
  };
}

/** The host's loopback is not the pod's. */
async function hostConfig({ hostNetwork }: PodSpec, { own, behindStub }: typeof hostFiles) {
  const host = await readResolvConf(own);
  const isStub = host.servers.length > 0 && host.servers.every((server) => /^127\.|^::1$/.test(server));
  if (!isStub || hostNetwork) return host;
  const behind = await readResolvConf(behindStub);
  return behind.servers.length > 0 ? behind : host;
}

async function readResolvConf(file: string) {
  return parseResolvConf(await readFile(file, "utf8").catch(() => ""));
}

export function parseResolvConf(text: string) {
  const lines = text.split("\n").map((line) =>
    line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/),
  );
  const last = lines.findLast(([keyword]) => keyword === "search" || keyword === "domain");
  return {
    servers: lines.flatMap(([keyword, server]) => (keyword === "nameserver" && server !== undefined ? [server] : [])),
    searches: last?.slice(1) ?? [],
    options: lines.flatMap(([keyword, ...options]) => (keyword === "options" ? options : [])),
  };
}

function optionName(option: string): string {
  return option.split(":", 1)[0] ?? option;
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}

/** A pod on the host's network sees the host's names. */
export async function hostsFile(spec: PodSpec, hostname: string, ips: readonly string[]): Promise<string> {
  const own = ips.map((ip) => `${ip}\t${hostname}`);
  const head = spec.hostNetwork
    ? [await readFile("/etc/hosts", "utf8").catch(() => "")]
    : ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::0\tip6-localnet", ...own];
  const aliases = (spec.hostAliases ?? []).map(({ ip, hostnames = [] }) => [ip, ...hostnames].join("\t"));
  return `# Made by keelson play.\n${[...head, ...aliases].join("\n")}\n`;
}
