// Every key of the configuration: what its value must be, its default and its effect. The sample and the manual are made of it.

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

const paths: Kind<readonly string[]> = {
  wanted: "a list of absolute paths",
  parse: (value) => {
    if (!Array.isArray(value)) return undefined;
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
  wanted: "an IP address and a port, as 127.0.0.1:9537 or [::1]:9537",
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

/** A key that need not have a value; `example` shows its form. */
function optional<Value>(key: string, kind: Kind<Value>, example: string, effect: string) {
  return { ...kind, key, example, effect };
}

/** Every key, in the order of the sample; `*` stands for one name of the reader's choice. */
export const settings = {
  root: setting(
    "root",
    path,
    "/var/lib/keelson",
    "Durable state: images, records of pods, network leases. Belongs on a disk.",
  ),
  state: setting(
    "state",
    path,
    "/run/keelson",
    "Volatile state: sockets and namespaces of pods. Empty after a reboot.",
  ),
  socket: optional(
    "socket",
    path,
    "/run/keelson/keelson.sock",
    "Where CRI is served, to root alone. Unless it is set: keelson.sock in the state directory.",
  ),
  logLevel: setting<LogLevel>(
    "log.level",
    oneOf("debug", "info", "warn", "error"),
    "info",
    "Lines of this level and above: debug, info, warn or error. SIGHUP applies it.",
  ),
  cgroupDriver: setting<CgroupDriver | "auto">(
    "cgroup.driver",
    oneOf("auto", "cgroupfs", "systemd"),
    "auto",
    "Who makes the cgroups of pods: Keelson itself, or systemd (a scope each); auto: systemd where it runs. A kubelet asks for it.",
  ),
  cgroupRoot: setting(
    "cgroup.root",
    path,
    "/keelson",
    "Parent of pods that come without a cgroup parent, in cgroupfs form; for systemd keelson.slice. A kubelet's pods come with one.",
  ),
  cniConfDir: setting("cni.conf_dir", path, "/etc/cni/net.d", "The network's configuration; watched for changes."),
  cniBinDirs: setting(
    "cni.bin_dirs",
    paths,
    ["/opt/cni/bin", "/usr/lib/cni"],
    "Where its plugins are looked for, in this order. Keelson's own lie in cni/ beside its native programs.",
  ),
  cniFromPodCidr: setting(
    "cni.from_pod_cidr",
    yesOrNo,
    false,
    "Make 99-keelson.conflist, a bridge, of the pod CIDR that the kubelet passes on, if conf_dir has no configuration then.",
  ),
  registriesDir: setting(
    "image.registries_dir",
    path,
    "/etc/keelson/registries",
    "A tree of HOST/hosts.toml, as containerd reads them: mirrors and TLS of registries. Read at each pull.",
  ),
  streamingAddress: setting(
    "streaming.address",
    loopback,
    "127.0.0.1",
    "Where exec, attach and port-forward are served; the kubelet forwards to it. Loopback, as nothing is encrypted.",
  ),
  streamingPort: setting("streaming.port", port, 0, "Its port; 0 for any free one."),
  metricsAddress: optional(
    "metrics.address",
    hostAndPort,
    "127.0.0.1:9537",
    "Where Prometheus finds figures at /metrics, unencrypted. Nowhere unless it is set.",
  ),
  defaultHandler: setting("runtime.default_handler", name, "native", "The handler of pods that name none."),
  handlerBinary: optional(
    "runtime.handlers.*.binary",
    path,
    "/usr/bin/runc",
    "An OCI runtime that pods reach by a RuntimeClass with this handler. Releases with known ways to the host are refused.",
  ),
} as const;

/** A config.toml of every key with what it does; those that have a default stand there as comments. */
export function sampleConfig(): string {
  const lines = [
    "# Keelson's configuration: every key, what it does, and its default. Files of config.toml.d/ win over this one.",
  ];
  let table = "";
  for (const { key, effect, example } of Object.values(settings)) {
    const name = key.replace("*", "runc");
    const [last = "", ...above] = name.split(".").reverse();
    const inside = above.reverse().join(".");
    lines.push("");
    // Commented out with its key: an empty table of a handler would be one without a binary.
    if (inside !== table) lines.push(inside.includes(".") ? `# [${inside}]` : `[${inside}]`);
    table = inside;
    lines.push(`# ${effect}`, `# ${stringify({ [last]: example }).trimEnd()}`);
  }
  return `${lines.join("\n")}\n`;
}
