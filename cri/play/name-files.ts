// How names are resolved in a pod: the DNS configuration it is given, and its /etc/hosts.

import { readFile } from "node:fs/promises";
import type { runtime } from "../api/generated/messages.js";
import type { PodSpec } from "./supported.ts";

/**
 * Source: the reference of dnsPolicy. There is no cluster DNS here, so that ClusterFirst is the host's configuration,
 * as with a kubelet that was given none.
 */
export async function dnsConfig(spec: PodSpec): Promise<runtime.v1.DNSConfig.$Properties> {
  const host = spec.dnsPolicy === "None" ? "" : await readFile("/etc/resolv.conf", "utf8").catch(() => "");
  const base = parseResolvConf(host);
  const { nameservers = [], searches = [], options = [] } = spec.dnsConfig ?? {};
  const own = options.map(({ name = "", value }) => (value === undefined ? name : `${name}:${value}`));
  const named = new Set(own.map(optionName));
  return {
    servers: unique([...base.servers, ...nameservers]),
    searches: unique([...base.searches, ...searches]),
    options: [...base.options.filter((option) => !named.has(optionName(option))), ...own],
  };
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
