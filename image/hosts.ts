// The endpoints of a registry: containerd's hosts.toml layout (its docs/hosts.md).
//
// `<directory>/<host>/hosts.toml`, `<directory>/<host>_<port>_/hosts.toml` or `<directory>/_default/hosts.toml` names
// mirrors, tried in the file's order, and the server, tried last. Without that file, certificates with Docker's file
// names in the same directory are used. Read again on every pull.

import { readdir } from "node:fs/promises";
import { isIP } from "node:net";
import path from "node:path";
import { parse, type TomlTable, type TomlValue } from "smol-toml";
import { isErrno, messageOf, readBounded, readBoundedBytes } from "../native/index.ts";
import { imageErrors } from "./errors.ts";

/** TLS settings of one host, as node:tls takes them. */
export interface TlsSettings {
  readonly ca?: readonly Buffer[];
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly rejectUnauthorized?: boolean;
}

/** A bundle of all public certificate authorities takes a quarter of a megabyte. */
const maxFileBytes = 16 << 20;

/** For hosts without any TLS settings. */
export const noTls: TlsSettings = {};

export interface Endpoint {
  /** Up to and including `/v2`, without a trailing slash. */
  readonly base: string;
  /** Host and port as in the URL. */
  readonly host: string;
  readonly canResolve: boolean;
  readonly canPull: boolean;
  readonly tls: TlsSettings;
  /** Names in lower case. */
  readonly headers: readonly (readonly [name: string, values: readonly string[]])[];
  /** False for a mirror: it gets the registry's name as `?ns=` and none of the registry's credentials. */
  readonly isServer: boolean;
}

/** The endpoints to try, in order. Throws FailedPrecondition for a broken hosts.toml. */
export async function loadEndpoints(directory: string, registry: string): Promise<readonly Endpoint[]> {
  const portForm = registry.replace(/:([0-9]+)$/, "_$1_");
  for (const name of new Set([portForm, registry, "_default"])) {
    const file = path.join(directory, name, "hosts.toml");
    const text = await readBounded(file, maxFileBytes).catch((error: unknown) => {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
      throw imageErrors.invalidHosts({ file, problem: `it cannot be read (${messageOf(error)})` }, error);
    });
    if (text !== undefined) return (await new HostsFile(file, text).endpoints(registry)).flatMap(withTlsFirst);
    const tls = await certificateFiles(path.dirname(file));
    if (tls !== undefined) return withTlsFirst(makeEndpoint(serverUrl(registry), { ...noSettings, tls }, true));
  }
  return [makeEndpoint(serverUrl(registry), noSettings, true)];
}

/** `*.crt` are CA certificates; `NAME.cert` with `NAME.key` is a client certificate, of which the first is used. */
async function certificateFiles(directory: string): Promise<TlsSettings | undefined> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw imageErrors.invalidHosts({ file: directory, problem: `it cannot be read (${messageOf(error)})` }, error);
  });
  const read = (name: string) =>
    readBoundedBytes(path.join(directory, name), maxFileBytes).catch((error: unknown) => {
      const problem = `${name} cannot be read (${messageOf(error)})`;
      throw imageErrors.invalidHosts({ file: directory, problem }, error);
    });
  const ca = await Promise.all(
    names
      .filter((name) => name.endsWith(".crt"))
      .sort()
      .map(read),
  );
  const [client] = names.filter((name) => name.endsWith(".cert")).sort();
  if (ca.length === 0 && client === undefined) return undefined;
  return {
    ...(ca.length > 0 && { ca }),
    ...(client && { cert: await read(client), key: await read(client.replace(/cert$/, "key")) }),
  };
}

/** As in containerd: an http address with a port and TLS settings is tried with TLS first. */
function withTlsFirst(endpoint: Endpoint): readonly Endpoint[] {
  const url = new URL(endpoint.base);
  if (url.protocol !== "http:" || url.port === "" || Object.keys(endpoint.tls).length === 0) return [endpoint];
  return [{ ...endpoint, base: endpoint.base.replace(/^http:/, "https:") }, endpoint];
}

interface Settings {
  readonly capabilities: readonly string[];
  readonly overridePath: boolean;
  readonly tls: TlsSettings;
  readonly headers: Endpoint["headers"];
}

const noSettings: Settings = { capabilities: ["pull", "resolve"], overridePath: false, tls: noTls, headers: [] };

class HostsFile {
  readonly #file: string;
  readonly #table: TomlTable;

  constructor(file: string, text: string) {
    this.#file = file;
    try {
      this.#table = parse(text);
    } catch (error) {
      throw this.#invalid(messageOf(error));
    }
  }

  async endpoints(registry: string): Promise<readonly Endpoint[]> {
    const found: Endpoint[] = [];
    const mirrors = this.#table.host;
    if (mirrors !== undefined && !isTable(mirrors)) throw this.#invalid("host is not a table");
    for (const [address, table] of Object.entries(mirrors ?? {})) {
      if (!isTable(table)) throw this.#invalid(`host."${address}" is not a table`);
      found.push(makeEndpoint(this.#url(address), await this.#settings(table), false));
    }
    const server = this.#string(this.#table, "server");
    const url = server === undefined || server === "" ? serverUrl(registry) : this.#url(server);
    // A mirror entry for the server's own address carries the server's settings.
    const own = found.findIndex((endpoint) => endpoint.base === makeEndpoint(url, noSettings, true).base);
    const described = found[own];
    if (described !== undefined) return found.with(own, { ...described, isServer: true });
    return [...found, makeEndpoint(url, await this.#settings(this.#table), true)];
  }

  #url(address: string): URL {
    const url = URL.parse(/^https?:\/\//.test(address) ? address : `${defaultScheme(address)}://${address}`);
    if (url === null || url.username !== "" || url.search !== "")
      throw this.#invalid(`"${address}" is not a host's URL`);
    if (url.host === "docker.io") url.host = dockerHub;
    return url;
  }

  async #settings(table: TomlTable): Promise<Settings> {
    const capabilities = this.#strings(table, "capabilities");
    const [cert, key] = await this.#client(table);
    const ca = await Promise.all(this.#strings(table, "ca").map((name) => this.#read(name)));
    return {
      capabilities: capabilities.length > 0 ? capabilities : noSettings.capabilities,
      overridePath: this.#boolean(table, "override_path"),
      headers: this.#headers(table),
      tls: {
        ...(ca.length > 0 && { ca }),
        ...(cert && { cert, key: key ?? cert }),
        ...(this.#boolean(table, "skip_verify") && { rejectUnauthorized: false }),
      },
    };
  }

  /** `client`: one file with both certificate and key, or a list of such pairs, of which the first is used. */
  async #client(table: TomlTable): Promise<readonly Buffer[]> {
    const client = table.client;
    const first = Array.isArray(client) ? client[0] : client;
    const names = Array.isArray(first) ? first : first === undefined ? [] : [first];
    return Promise.all(
      names
        .filter((name) => name !== "")
        .map((name) => {
          if (typeof name !== "string") throw this.#invalid("client is not a list of file names");
          return this.#read(name);
        }),
    );
  }

  #headers(table: TomlTable): Endpoint["headers"] {
    const header = table.header;
    if (header === undefined) return [];
    if (!isTable(header)) throw this.#invalid("header is not a table");
    return Object.keys(header).map((name) => [name.toLowerCase(), this.#strings(header, name)]);
  }

  #read(name: string): Promise<Buffer> {
    return readBoundedBytes(path.resolve(path.dirname(this.#file), name), maxFileBytes).catch((error: unknown) => {
      throw this.#invalid(`${name} cannot be read (${messageOf(error)})`);
    });
  }

  #string(table: TomlTable, key: string): string | undefined {
    const value = table[key];
    if (value !== undefined && typeof value !== "string") throw this.#invalid(`${key} is not a string`);
    return value;
  }

  #strings(table: TomlTable, key: string): readonly string[] {
    const value = table[key];
    const list = Array.isArray(value) ? value : value === undefined ? [] : [value];
    return list.map((item) => {
      if (typeof item !== "string") throw this.#invalid(`${key} is not a list of strings`);
      return item;
    });
  }

  #boolean(table: TomlTable, key: string): boolean {
    const value = table[key] ?? false;
    if (typeof value !== "boolean") throw this.#invalid(`${key} is not true or false`);
    return value;
  }

  #invalid(problem: string) {
    return imageErrors.invalidHosts({ file: this.#file, problem });
  }
}

function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}

function makeEndpoint(url: URL, settings: Settings, isServer: boolean): Endpoint {
  const prefix = url.pathname.replace(/\/+$/, "");
  const hasVersion = settings.overridePath || prefix.endsWith("/v2");
  return {
    base: `${url.origin}${prefix}${hasVersion ? "" : "/v2"}`,
    host: url.host,
    canResolve: settings.capabilities.includes("resolve"),
    canPull: settings.capabilities.includes("pull"),
    tls: settings.tls,
    headers: settings.headers,
    isServer,
  };
}

/** Docker Hub's API has a different host name than its image references. */
const dockerHub = "registry-1.docker.io";

function serverUrl(registry: string): URL {
  const host = registry === "docker.io" ? dockerHub : registry;
  return new URL(`${defaultScheme(host)}://${host}`);
}

/** Plain HTTP is the default only for this machine's loopback, as in containerd and Docker. */
function defaultScheme(address: string): "http" | "https" {
  const url = URL.parse(`http://${address}`);
  const host = url?.hostname ?? "";
  const isLoopback = host === "localhost" || host === "[::1]" || (isIP(host) === 4 && host.startsWith("127."));
  return isLoopback && url?.port !== "443" ? "http" : "https";
}
