// The proxy for a registry: HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the environment, in upper or lower case, with the
// semantics of Go's net/http/httpproxy, which containerd and CRI-O use: https never uses HTTP_PROXY, and connections to
// this host are always direct. No SOCKS.

import { BlockList, isIP } from "node:net";

/** The proxy for a URL; undefined to connect directly. Throws BadProxy. */
export type ProxyFor = (url: URL) => URL | undefined;

/** The environment names an unusable proxy. The message does not include its value, which may contain a password. */
export class BadProxy extends Error {}

/** Reads the variables once. An invalid one is an error only for the URLs that it applies to. */
export function proxiesOf(environment: NodeJS.ProcessEnv): ProxyFor {
  const find = (name: string) => environment[name] || environment[name.toLowerCase()] || undefined;
  const proxyIn = (name: string) => {
    const value = find(name);
    return value === undefined ? undefined : parseProxy(name, value);
  };
  const proxies = new Map([
    ["http:", proxyIn("HTTP_PROXY")],
    ["https:", proxyIn("HTTPS_PROXY")],
  ]);
  const goesDirectly = parseExceptions(find("NO_PROXY") ?? "");
  return (url) => {
    const proxy = proxies.get(url.protocol);
    if (proxy === undefined || goesDirectly(url)) return undefined;
    if (proxy instanceof BadProxy) throw proxy;
    return proxy;
  };
}

function parseProxy(name: string, value: string): URL | BadProxy {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  if (url === null || url.hostname === "") return new BadProxy(`${name} in Keelson's environment is not a URL`);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return new BadProxy(`${name} in Keelson's environment names a proxy of kind ${url.protocol}, not http: or https:`);
  }
  try {
    decodeURIComponent(`${url.username}:${url.password}`);
  } catch {
    return new BadProxy(`${name} in Keelson's environment has an invalid % in its user or password; write % as %25`);
  }
  return url;
}

/** NO_PROXY: addresses, networks, names (with subdomains) and `.name` (only subdomains), optionally with a port. */
function parseExceptions(value: string): (url: URL) => boolean {
  const entries = value
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== "")
    .map(parseException);
  return ({ protocol, hostname, port }) => {
    const host = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
    const portNumber = port || (protocol === "https:" ? "443" : "80");
    if (host === "localhost" || contains(loopback, host)) return true;
    return entries.some((entry) => (entry.port === undefined || entry.port === portNumber) && entry.holds(host));
  };
}

interface Exception {
  readonly port?: string | undefined;
  holds(host: string): boolean;
}

function parseException(entry: string): Exception {
  const [network = "", prefix] = entry.split("/");
  if (isIP(network) !== 0 && /^\d{1,3}$/.test(prefix ?? "")) return { holds: holdsNetwork(network, Number(prefix)) };
  const [, bracketed, plain = entry, port] = /^(?:\[(.*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  const name = bracketed ?? plain;
  if (isIP(name) !== 0) return { port, holds: holdsNetwork(name, isIP(name) === 4 ? 32 : 128) };
  if (name === "*") return { port, holds: () => true };
  const below = name.replace(/^\*?\.?/, ".");
  const isItself = /^[*.]/.test(name) ? () => false : (host: string) => host === name;
  return { port, holds: (host) => isItself(host) || (below !== "." && host.endsWith(below)) };
}

function holdsNetwork(address: string, prefix: number): (host: string) => boolean {
  if (prefix > (isIP(address) === 4 ? 32 : 128)) return () => false;
  const list = new BlockList();
  list.addSubnet(address, prefix, familyOf(address));
  return (host) => contains(list, host);
}

function contains(list: BlockList, host: string): boolean {
  return isIP(host) !== 0 && list.check(host, familyOf(host));
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIP(address) === 4 ? "ipv4" : "ipv6";
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");
