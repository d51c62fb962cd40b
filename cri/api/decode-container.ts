// ContainerConfig → the pod model's ContainerConfig.

import type { ContainerConfig, ContainerMetadata, Device } from "../../pod/types.ts";
import {
  absolutePath,
  argument,
  invalid,
  pathComponent,
  pathInContainer,
  pathInside,
  present,
  required,
  requiredText,
  stringMap,
} from "./decode-fields.ts";
import { decodeImageSpec } from "./decode-image.ts";
import { decodeMount } from "./decode-mount.ts";
import { decodeResources } from "./decode-resources.ts";
import { decodeContainerSecurity } from "./decode-security.ts";
import { runtime } from "./generated/messages.js";

export function decodeContainerConfig(
  message: runtime.v1.ContainerConfig.$Properties | null | undefined,
): ContainerConfig {
  const config = required(message, "config", "the container's configuration");
  const linux = config.linux ?? {};
  return {
    metadata: decodeMetadata(config.metadata, "config.metadata"),
    image: decodeImageSpec(config.image, "config.image"),
    command: (config.command ?? []).map((text, n) => argument(text, `config.command[${n}]`)),
    args: (config.args ?? []).map((text, n) => argument(text, `config.args[${n}]`)),
    workingDir: pathInContainer(config.workingDir, "config.working_dir"),
    envs: (config.envs ?? []).map((env, n) => decodeEnv(env, `config.envs[${n}]`)),
    mounts: (config.mounts ?? []).map((mount, n) => decodeMount(mount, `config.mounts[${n}]`)),
    devices: (config.devices ?? []).map((device, n) => decodeDevice(device, `config.devices[${n}]`)),
    cdiDevices: (config.CDIDevices ?? []).map((device, n) =>
      decodeCdiDevice(device.name, `config.CDI_devices[${n}].name`),
    ),
    labels: stringMap(config.labels),
    annotations: stringMap(config.annotations),
    logPath: pathInside(config.logPath, "config.log_path"),
    stdin: config.stdin ?? false,
    stdinOnce: config.stdinOnce ?? false,
    tty: config.tty ?? false,
    ...present(decodeResources(linux.resources, "config.linux.resources"), (resources) => ({ resources })),
    security: decodeContainerSecurity(linux.securityContext, "config.linux.security_context"),
    ...present(decodeStopSignal(config.stopSignal, "config.stop_signal"), (stopSignal) => ({ stopSignal })),
  };
}

function decodeMetadata(
  message: runtime.v1.ContainerMetadata.$Properties | null | undefined,
  field: string,
): ContainerMetadata {
  const metadata = required(message, field, "the container's name and attempt");
  const name = requiredText(metadata.name, `${field}.name`, "the container's name");
  return { name: pathComponent(name, `${field}.name`), attempt: metadata.attempt ?? 0 };
}

/** Values are copied: otherwise they would keep the memory of the entire request alive. */
function decodeEnv(message: runtime.v1.KeyValue.$Properties, field: string): { name: string; value: Buffer } {
  const name = requiredText(message.key, `${field}.key`, "the variable's name");
  if (/[=\0]/.test(name)) throw invalid(`${field}.key`, name, "a name without = and NUL");
  const value = Buffer.from(message.value ?? []);
  if (value.includes(0)) throw invalid(`${field}.value`, "bytes with a NUL", "bytes without NUL");
  return { name, value };
}

function decodeDevice(message: runtime.v1.Device.$Properties, field: string): Device {
  const permissions = message.permissions ?? "";
  if (!/^[rwm]{0,3}$/.test(permissions))
    throw invalid(`${field}.permissions`, permissions, "a combination of r, w and m");
  return {
    containerPath: absolutePath(message.containerPath, `${field}.container_path`),
    hostPath: absolutePath(message.hostPath, `${field}.host_path`),
    permissions,
  };
}

/** Source: the CDI specification, "Device names". */
function decodeCdiDevice(text: string | null | undefined, field: string): string {
  const name = text ?? "";
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9._-]+=[A-Za-z0-9._:-]+$/.test(name)) {
    throw invalid(field, name, "a name like vendor.com/class=device");
  }
  return name;
}

/** SIGNAL_SIGTERM → SIGTERM; undefined for the default. */
function decodeStopSignal(value: runtime.v1.Signal | null | undefined, field: string): string | undefined {
  if (!value) return undefined;
  const name = runtime.v1.Signal[value];
  if (name === undefined) throw invalid(field, value, "a number of CRI's Signal enum, 0 to 65");
  return name.replace(/^SIGNAL_/, "");
}
