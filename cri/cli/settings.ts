// Every configuration key: its valid values, default and effect. The sample and the manual are generated from this.

import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { stringify } from "smol-toml";
import type { LogLevel } from "../../native/index.ts";
import type { CgroupDriver } from "../../pod/index.ts";
import type { HostAndPort } from "../host-and-port.ts";
import type { Setting } from "./config-files.ts";

/** What a value must be. */
type Kind<Value> = Pick<Setting<Value>, "wanted" | "parse">;

const path: Kind<string> = {
  wanted: "an absolute path",
  parse: (value) => (typeof value === "string" && isAbsolute(value) ? value : undefined),
};

const cgroup: Kind<string> = {
  wanted: "an absolute path without . and ..",
  parse: (value) => (typeof value === "string" && /^(?!.*\/\.\.?(\/|$))\//.test(value) ? value : undefined),
};

const paths: Kind<readonly string[]> = {
  wanted: "a list of at least one absolute path",
  parse: (value) => {
    if (!Array.isArray(value) || value.length === 0) return undefined;
    const found = value.filter((each): each is string => typeof each === "string" && isAbsolute(each));
    return found.length === value.length ? found : undefined;
  },
};

const loopback: Kind<string> = {
  wanted: "a loopback address (127.0.0.1 or ::1, to which the kubelet forwards), as sessions are not encrypted",
  parse: (value) => (typeof value === "string" && isIP(value) !== 0 && /^(127\.|::1$)/.test(value) ? value : undefined),
};

const port: Kind<number> = {
  wanted: "a port, 0 to 65535",
  parse: (value) => (typeof value === "number" && Number.isInteger(value) && isPort(value) ? value : undefined),
};

const hostAndPort: Kind<HostAndPort> = {
  wanted: "an IP address and a port, such as 127.0.0.1:9537 or [::1]:9537",
  parse: (value) => {
    const match = typeof value === "string" ? /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value) : null;
    const [, bracketed, plain, digits] = match ?? [];
    const [host = "", number] = [bracketed ?? plain, Number(digits)];
    return isIP(host) === (bracketed === undefined ? 4 : 6) && isPort(number) ? { host, port: number } : undefined;
  },
};

const yesOrNo: Kind<boolean> = {
  wanted: "true or false",
  parse: (value) => (typeof value === "boolean" ? value : undefined),
};

const name: Kind<string> = {
  wanted: "a name",
  parse: (value) => (typeof value === "string" && value !== "" ? value : undefined),
};

function oneOf<Name extends string>(...names: readonly Name[]): Kind<Name> {
  return { wanted: `one of ${names.join(", ")}`, parse: (value) => names.find((known) => known === value) };
}

function isPort(value: number): boolean {
  return value >= 0 && value <= 65_535;
}

/** A key with its default. */
function setting<Value>(key: string, kind: Kind<Value>, fallback: Value, effect: string) {
  return { ...kind, key, fallback, example: fallback, effect };
}

/** A key without a default; `example` shows its format. */
function optional<Value>(key: string, kind: Kind<Value>, example: string, effect: string) {
  return { ...kind, key, example, effect };
}

/** Every key, in the order of the sample; `*` stands for a name chosen by the user. */
export const settings = {
  root: setting(
    "root",
    path,
    "/var/lib/keelson",
    "Persistent state: images, pod records, network leases. Belongs on a disk.",
  ),
  state: setting(
    "state",
    path,
    "/run/keelson",
    "Volatile state: pods' sockets and mounts. Must be empty after a reboot. Pods' network namespaces are pinned in netns/ beside it.",
  ),
  socket: optional(
    "socket",
    path,
    "/run/keelson/keelson.sock",
    "The CRI socket, accessible to root only. If unset: keelson.sock in the state directory.",
  ),
  logLevel: setting<LogLevel>(
    "log.level",
    oneOf("debug", "info", "warn", "error"),
    "info",
    "Lowest level to log: debug, info, warn or error. SIGHUP applies a change.",
  ),
  cgroupDriver: setting<CgroupDriver | "auto">(
    "cgroup.driver",
    oneOf("auto", "cgroupfs", "systemd"),
    "auto",
    "Who creates pod cgroups: cgroupfs (Keelson itself) or systemd (a scope each); auto: systemd where it runs. Reported to the kubelet.",
  ),
  cgroupRoot: setting(
    "cgroup.root",
    cgroup,
    "/keelson",
    "Cgroup parent of pods that do not set one, in cgroupfs form (systemd: keelson.slice). A kubelet always sets one.",
  ),
  cniConfDir: setting("cni.conf_dir", path, "/etc/cni/net.d", "The CNI configuration directory; watched for changes."),
  cniBinDirs: setting(
    "cni.bin_dirs",
    paths,
    ["/opt/cni/bin", "/usr/lib/cni"],
    "CNI plugin directories, searched in this order. Keelson's own plugins are in cni/ beside its native programs.",
  ),
  cniFromPodCidr: setting(
    "cni.from_pod_cidr",
    yesOrNo,
    false,
    "Create 99-keelson.conflist, a bridge, from the pod CIDR that the kubelet passes, if conf_dir has no configuration by then.",
  ),
  registriesDir: setting(
    "image.registries_dir",
    path,
    "/etc/keelson/registries",
    "Tree of HOST/hosts.toml files in containerd's format: registry mirrors and TLS. Read at each pull.",
  ),
  streamingAddress: setting(
    "streaming.address",
    loopback,
    "127.0.0.1",
    "Address for exec, attach and port-forward; the kubelet forwards to it. Loopback only, since nothing is encrypted.",
  ),
  streamingPort: setting("streaming.port", port, 0, "Port for exec, attach and port-forward; 0 for any free one."),
  metricsAddress: optional(
    "metrics.address",
    hostAndPort,
    "127.0.0.1:9537",
    "Where Prometheus metrics are served at /metrics, unencrypted. If unset, they are not served.",
  ),
  defaultHandler: setting("runtime.default_handler", name, "native", "The handler of pods that do not name one."),
  handlerBinary: optional(
    "runtime.handlers.*.binary",
    path,
    "/usr/bin/runc",
    "An OCI runtime for pods whose RuntimeClass has this handler. Releases with known container escapes are refused.",
  ),
} as const;

/** A config.toml with every key and its effect; all keys are commented out. */
export function sampleConfig(): string {
  const lines = [
    "# Keelson's configuration: every key, what it does, and its default. Files in config.toml.d/ override this one.",
  ];
  let table = "";
  for (const { key, effect, example } of Object.values(settings)) {
    const name = key.replace("*", "runc");
    const [last = "", ...above] = name.split(".").reverse();
    const inside = above.reverse().join(".");
    lines.push("");
    // Commented out along with its key: an empty handler table would be a handler without a binary.
    if (inside !== table) lines.push(inside.includes(".") ? `# [${inside}]` : `[${inside}]`);
    table = inside;
    lines.push(`# ${effect}`, `# ${stringify({ [last]: example }).trimEnd()}`);
  }
  return `${lines.join("\n")}\n`;
}
