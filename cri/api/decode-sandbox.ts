// PodSandboxConfig → the pod model's SandboxConfig.

import { isIP } from "node:net";
import type { DnsConfig, PortMapping } from "../../cni/types.ts";
import { ipcSysctls, sysctlName, sysctlNamespace } from "../../native/index.ts";
import type { NamespaceOptions, SandboxConfig, SandboxMetadata, StringMap } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import {
  absolutePathOrEmpty,
  enumName,
  intWithin,
  invalid,
  pathComponent,
  plainText,
  present,
  required,
  requiredText,
  stringMap,
  word,
} from "./decode-fields.ts";
import { decodeResources } from "./decode-resources.ts";
import { decodeSandboxSecurity } from "./decode-security.ts";
import type { runtime } from "./generated/messages.js";

const protocols = ["tcp", "udp", "sctp"] as const;

export function decodeSandboxConfig(
  message: runtime.v1.PodSandboxConfig.$Properties | null | undefined,
): SandboxConfig {
  const config = required(message, "config", "the sandbox's configuration");
  const linux = config.linux ?? {};
  const security = decodeSandboxSecurity(linux.securityContext, "config.linux.security_context");
  const dns = decodeDns(config.dnsConfig, "config.dns_config");
  return {
    metadata: decodeMetadata(config.metadata, "config.metadata"),
    hostname: decodeHostname(config.hostname, "config.hostname"),
    logDirectory: absolutePathOrEmpty(config.logDirectory, "config.log_directory"),
    ...present(dns, (dns) => ({ dns })),
    portMappings: decodePortMappings(config.portMappings ?? [], "config.port_mappings"),
    labels: stringMap(config.labels),
    annotations: stringMap(config.annotations),
    cgroupParent: decodeCgroupParent(linux.cgroupParent, "config.linux.cgroup_parent"),
    security,
    sysctls: decodeSysctls(stringMap(linux.sysctls), security.namespaces, "config.linux.sysctls"),
    ...present(decodeResources(linux.overhead, "config.linux.overhead"), (overhead) => ({ overhead })),
    ...present(decodeResources(linux.resources, "config.linux.resources"), (resources) => ({ resources })),
  };
}

function decodeMetadata(
  message: runtime.v1.PodSandboxMetadata.$Properties | null | undefined,
  field: string,
): SandboxMetadata {
  const metadata = required(message, field, "the pod's name, namespace, uid and attempt");
  return {
    name: pathComponent(requiredText(metadata.name, `${field}.name`, "the pod's name"), `${field}.name`),
    uid: pathComponent(metadata.uid, `${field}.uid`),
    namespace: pathComponent(
      requiredText(metadata.namespace, `${field}.namespace`, "the pod's namespace"),
      `${field}.namespace`,
    ),
    attempt: metadata.attempt ?? 0,
  };
}

/** sethostname(2) accepts at most 64 bytes. */
function decodeHostname(text: string | null | undefined, field: string): string {
  const hostname = text ?? "";
  if (!/^[A-Za-z0-9._-]{0,64}$/.test(hostname)) {
    throw invalid(field, hostname, "at most 64 letters, digits, dots and hyphens");
  }
  return hostname;
}

function decodeDns(message: runtime.v1.DNSConfig.$Properties | null | undefined, field: string): DnsConfig | undefined {
  if (!message) return undefined;
  return {
    servers: (message.servers ?? []).map((server, n) => word(server, `${field}.servers[${n}]`)),
    searches: (message.searches ?? []).map((search, n) => word(search, `${field}.searches[${n}]`)),
    options: (message.options ?? []).map((option, n) => word(option, `${field}.options[${n}]`)),
  };
}

/** Ports that are not mapped on the host (host_port 0) are informational and left out. */
function decodePortMappings(messages: readonly runtime.v1.PortMapping.$Properties[], field: string): PortMapping[] {
  return messages.flatMap((message, n) => {
    const at = `${field}[${n}]`;
    const hostPort = intWithin(message.hostPort, `${at}.host_port`, 0, 65535);
    if (hostPort === 0) return [];
    const hostIp = message.hostIp ?? "";
    if (hostIp !== "" && isIP(hostIp) === 0)
      throw invalid(`${at}.host_ip`, hostIp, "an IP address, or empty for all addresses");
    return {
      hostPort,
      containerPort: intWithin(message.containerPort, `${at}.container_port`, 1, 65535),
      protocol: enumName(message.protocol, `${at}.protocol`, protocols),
      hostIp,
    };
  });
}

function decodeCgroupParent(text: string | null | undefined, field: string): string {
  const path = plainText(text, field);
  if (path === "") return path;
  if (path.startsWith("/") ? !path.split("/").includes("..") : path.endsWith(".slice") && !path.includes("/"))
    return path;
  throw invalid(field, path, "an absolute path like /kubepods/pod1, without .., or a slice like kubepods.slice");
}

/** By dotted name. Only sysctls of a namespace that the pod has of its own, since any other would change the host. */
function decodeSysctls(sysctls: StringMap, namespaces: NamespaceOptions, field: string): StringMap {
  const decoded = new Map<string, string>();
  for (const [text, value] of sysctls) {
    const at = `${field}[${JSON.stringify(text)}]`;
    const name = sysctlName(text);
    if (name === undefined) throw invalid(`${field} key`, text, "a sysctl's name");
    plainText(value, at);
    const holder = sysctlNamespace(name);
    if (holder === undefined) {
      throw invalid(
        `${field} key`,
        text,
        `a sysctl of the network or IPC namespace: net.*, fs.mqueue.*, ${[...ipcSysctls].join(", ")}`,
      );
    }
    if (namespaces[holder] === "node") {
      throw criErrors.fieldsConflict({
        field: at,
        other: `namespace_options.${holder} = NODE`,
        remedy: "It would change the host: leave it out, or give the pod its own namespace.",
      });
    }
    decoded.set(name, value);
  }
  return decoded;
}
