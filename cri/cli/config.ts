// The daemon's configuration: embedded defaults, config.toml, its drop-ins, flags; later ones win.

import { isIP } from "node:net";
import { isAbsolute, join } from "node:path";
import { stringify } from "smol-toml";
import type { LogLevel } from "../../native/index.ts";
import { readSettings, type Setting, type SettingValues } from "./config-files.ts";

export const defaultConfigFile = "/etc/keelson/config.toml";

export interface Config {
  /** Durable state; on a disk. */
  readonly root: string;
  /** Volatile state; empty after a reboot. */
  readonly state: string;
  readonly socket: string;
  readonly logLevel: LogLevel;
  /** cgroupfs form: where pods without a cgroup_parent go. */
  readonly cgroupRoot: string;
  readonly cniConfDir: string;
  readonly cniBinDirs: readonly string[];
  /** A tree of hosts.toml files, one directory for each registry host. */
  readonly registriesDir: string;
  /** Where Exec, Attach and PortForward are served over HTTP; kubelets dial it. */
  readonly streamingAddress: string;
  /** 0 for any free one. */
  readonly streamingPort: number;
  /** Where figures are served to Prometheus; undefined for nowhere. */
  readonly metricsAddress: HostAndPort | undefined;
  readonly defaultHandler: string;
  /** OCI runtime binaries by handler name; "native" needs none. */
  readonly handlers: ReadonlyMap<string, string>;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** Every key; `*` stands for one name of the reader's choice. */
export const settings = {
  root: absolutePath("root"),
  state: absolutePath("state"),
  socket: absolutePath("socket"),
  logLevel: oneOf<LogLevel>("log.level", ["debug", "info", "warn", "error"]),
  cgroupRoot: absolutePath("cgroup.root"),
  cniConfDir: absolutePath("cni.conf_dir"),
  cniBinDirs: absolutePaths("cni.bin_dirs"),
  registriesDir: absolutePath("image.registries_dir"),
  streamingAddress: address("streaming.address"),
  streamingPort: portNumber("streaming.port"),
  metricsAddress: hostAndPort("metrics.address"),
  defaultHandler: name("runtime.default_handler"),
  handlerBinary: absolutePath("runtime.handlers.*.binary"),
} as const;

/**
 * `file` undefined: the default file, which may be missing. `flags` are values by key. Rejects with an
 * error that names the file, the key and what it should be.
 */
export async function loadConfig(
  file: string | undefined,
  flags: ReadonlyMap<string, unknown> = new Map(),
): Promise<Config> {
  const values = await readSettings(file ?? defaultConfigFile, file !== undefined, flags, Object.values(settings));
  const state = take(values, settings.state) ?? "/run/keelson";
  return {
    root: take(values, settings.root) ?? "/var/lib/keelson",
    state,
    socket: take(values, settings.socket) ?? join(state, "keelson.sock"),
    logLevel: take(values, settings.logLevel) ?? "info",
    cgroupRoot: take(values, settings.cgroupRoot) ?? "/keelson",
    cniConfDir: take(values, settings.cniConfDir) ?? "/etc/cni/net.d",
    cniBinDirs: take(values, settings.cniBinDirs) ?? ["/opt/cni/bin", "/usr/lib/cni"],
    registriesDir: take(values, settings.registriesDir) ?? "/etc/keelson/registries",
    streamingAddress: take(values, settings.streamingAddress) ?? "127.0.0.1",
    streamingPort: take(values, settings.streamingPort) ?? 0,
    metricsAddress: take(values, settings.metricsAddress),
    defaultHandler: take(values, settings.defaultHandler) ?? "native",
    handlers: handlersOf(values),
  };
}

/** The configuration as a config.toml that says the same. */
export function printConfig(config: Config): string {
  return stringify({
    root: config.root,
    state: config.state,
    socket: config.socket,
    log: { level: config.logLevel },
    cgroup: { root: config.cgroupRoot },
    cni: { conf_dir: config.cniConfDir, bin_dirs: [...config.cniBinDirs] },
    image: { registries_dir: config.registriesDir },
    streaming: { address: config.streamingAddress, port: config.streamingPort },
    ...(config.metricsAddress && { metrics: { address: formatHostAndPort(config.metricsAddress) } }),
    runtime: {
      default_handler: config.defaultHandler,
      handlers: Object.fromEntries([...config.handlers].map(([handler, binary]) => [handler, { binary }])),
    },
  });
}

function take<Value>(values: SettingValues, setting: Setting<Value>): Value | undefined {
  return setting.parse(values.get(setting.key));
}

function handlersOf(values: SettingValues): Map<string, string> {
  const handlers = new Map<string, string>();
  for (const [key, value] of values) {
    const handler = /^runtime\.handlers\.([^.]+)\.binary$/.exec(key)?.[1];
    const binary = handler === undefined ? undefined : settings.handlerBinary.parse(value);
    if (handler !== undefined && binary !== undefined) handlers.set(handler, binary);
  }
  return handlers;
}

function absolutePath(key: string): Setting<string> {
  const parse = (value: unknown) => (typeof value === "string" && isAbsolute(value) ? value : undefined);
  return { key, wanted: "an absolute path", parse };
}

function absolutePaths(key: string): Setting<readonly string[]> {
  const parse = (value: unknown) => {
    if (!Array.isArray(value)) return undefined;
    const paths = value.filter((path): path is string => typeof path === "string" && isAbsolute(path));
    return paths.length === value.length ? paths : undefined;
  };
  return { key, wanted: "a list of absolute paths", parse };
}

function address(key: string): Setting<string> {
  return {
    key,
    wanted: "an IP address",
    parse: (value) => (typeof value === "string" && isIP(value) !== 0 ? value : undefined),
  };
}

function portNumber(key: string): Setting<number> {
  const isPort = (value: unknown): value is number =>
    typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 65_535;
  return { key, wanted: "a port, 0 to 65535", parse: (value) => (isPort(value) ? value : undefined) };
}

function hostAndPort(key: string): Setting<HostAndPort> {
  const parse = (value: unknown) => {
    const [, bracketed, plain, digits] =
      (typeof value === "string" && /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value)) || [];
    const [host = "", port] = [bracketed ?? plain, Number(digits)];
    return isIP(host) === (bracketed === undefined ? 4 : 6) && port <= 65_535 ? { host, port } : undefined;
  };
  return { key, wanted: "an IP address and a port, as 127.0.0.1:9537 or [::1]:9537", parse };
}

export function formatHostAndPort({ host, port }: HostAndPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function oneOf<Name extends string>(key: string, names: readonly Name[]): Setting<Name> {
  return { key, wanted: `one of ${names.join(", ")}`, parse: (value) => names.find((known) => known === value) };
}

function name(key: string): Setting<string> {
  const parse = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return { key, wanted: "a name", parse };
}
