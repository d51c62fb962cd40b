// The daemon's configuration: built-in defaults, config.toml, its drop-ins, flags; later ones override earlier ones.

import { join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { stringify } from "smol-toml";
import type { LogLevel } from "../../native/index.ts";
import type { CgroupDriver } from "../../pod/index.ts";
import { criErrors } from "../errors.ts";
import { formatHostAndPort, type HostAndPort } from "../host-and-port.ts";
import { readSettings, type Setting, type SettingValues } from "./config-files.ts";
import { settings } from "./settings.ts";

export const defaultConfigFile = "/etc/keelson/config.toml";

export interface Config {
  /** Persistent state; on a disk. */
  readonly root: string;
  /** Volatile state; empty after a reboot. */
  readonly state: string;
  readonly socket: string;
  readonly logLevel: LogLevel;
  readonly cgroupDriver: CgroupDriver | "auto";
  /** Cgroup parent of pods without a cgroup_parent, in cgroupfs form. */
  readonly cgroupRoot: string;
  readonly cniConfDir: string;
  readonly cniBinDirs: readonly string[];
  /** Whether a network is created from the kubelet's pod CIDR if none is configured. */
  readonly cniFromPodCidr: boolean;
  /** A tree of hosts.toml files, one directory for each registry host. */
  readonly registriesDir: string;
  /** Where Exec, Attach and PortForward are served over HTTP; kubelets dial it. */
  readonly streamingAddress: string;
  /** 0 for any free one. */
  readonly streamingPort: number;
  /** Where metrics are served to Prometheus; undefined for nowhere. */
  readonly metricsAddress: HostAndPort | undefined;
  readonly defaultHandler: string;
  /** OCI runtime binaries by handler name; "native" needs none. */
  readonly handlers: ReadonlyMap<string, string>;
}

/**
 * If `file` is undefined, reads the default file, which may be missing. `flags` are values by key. Rejects with an
 * error that names the file, the key and its valid values.
 */
export async function loadConfig(
  file: string | undefined,
  flags: ReadonlyMap<string, unknown> = new Map(),
): Promise<Config> {
  const values = await readSettings(file ?? defaultConfigFile, file !== undefined, flags, Object.values(settings));
  const given = <Value>({ key, parse }: Setting<Value>): Value | undefined => parse(values.get(key));
  const take = <Value>(known: Setting<Value> & { readonly fallback: Value }): Value => given(known) ?? known.fallback;
  const [root, state] = [take(settings.root), take(settings.state)];
  if (resolve(root) === resolve(state)) throw criErrors.configOneDirectory({ directory: root });
  return {
    root,
    state,
    socket: given(settings.socket) ?? join(state, "keelson.sock"),
    logLevel: take(settings.logLevel),
    cgroupDriver: take(settings.cgroupDriver),
    cgroupRoot: take(settings.cgroupRoot),
    cniConfDir: take(settings.cniConfDir),
    cniBinDirs: take(settings.cniBinDirs),
    cniFromPodCidr: take(settings.cniFromPodCidr),
    registriesDir: take(settings.registriesDir),
    streamingAddress: take(settings.streamingAddress),
    streamingPort: take(settings.streamingPort),
    metricsAddress: given(settings.metricsAddress),
    defaultHandler: take(settings.defaultHandler),
    handlers: handlersOf(values),
  };
}

/** The configuration as an equivalent config.toml. */
export function printConfig(config: Config): string {
  return stringify({
    root: config.root,
    state: config.state,
    socket: config.socket,
    log: { level: config.logLevel },
    cgroup: { driver: config.cgroupDriver, root: config.cgroupRoot },
    cni: {
      conf_dir: config.cniConfDir,
      bin_dirs: [...config.cniBinDirs],
      from_pod_cidr: config.cniFromPodCidr,
    },
    image: { registries_dir: config.registriesDir },
    streaming: { address: config.streamingAddress, port: config.streamingPort },
    ...(config.metricsAddress && { metrics: { address: formatHostAndPort(config.metricsAddress) } }),
    runtime: {
      default_handler: config.defaultHandler,
      handlers: Object.fromEntries([...config.handlers].map(([handler, binary]) => [handler, { binary }])),
    },
  });
}

/** The keys whose values differ, as named in the file. */
export function changedKeys(old: Config, read: Config): string[] {
  const { handlerBinary: _, ...others } = settings;
  const known = { ...others, handlers: { key: "runtime.handlers" } } satisfies Record<keyof Config, { key: string }>;
  return Object.entries(known)
    .filter(([name]) => !isDeepStrictEqual(Reflect.get(old, name), Reflect.get(read, name)))
    .map(([, { key }]) => key);
}

function handlersOf(values: SettingValues): Map<string, string> {
  const handlers = new Map<string, string>();
  for (const [key, value] of values) {
    const handler = /^runtime\.handlers\.([^.]+)\.binary$/.exec(key)?.[1];
    const binary = handler === undefined ? undefined : settings.handlerBinary.parse(value);
    if (handler === "native") throw criErrors.configNativeHandler({});
    if (handler !== undefined && binary !== undefined) handlers.set(handler, binary);
  }
  return handlers;
}
