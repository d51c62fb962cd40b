// Reads the network configuration: the first valid file of the directory, in name order.
//
// CNI spec 1.1.0, section 1. A file is a list (*.conflist) or one plugin (*.conf, *.json), which
// becomes a list of one. A file that is not valid is passed over, and the reason is kept.

import { readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import {
  asArray,
  asObject,
  asString,
  type JsonObject,
  member,
  messageOf,
  parseObject,
  readBounded,
  UnfitFile,
} from "../native/index.ts";

/** CNI spec versions spoken here, oldest first. */
export const cniVersions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof cniVersions)[number];

export interface PluginConfig {
  readonly type: string;
  /** The plugin's object as the file has it. */
  readonly config: JsonObject;
}

export interface NetworkConfig {
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly disableCheck: boolean;
  readonly disableGc: boolean;
  readonly plugins: readonly PluginConfig[];
}

export interface RejectedFile {
  readonly path: string;
  readonly reason: string;
}

export type LoadedConfig =
  | {
      readonly kind: "found";
      readonly path: string;
      readonly network: NetworkConfig;
      readonly rejected: readonly RejectedFile[];
    }
  | { readonly kind: "none"; readonly reason: string; readonly rejected: readonly RejectedFile[] };

/** Longer files are refused; real ones are below 10 KB. */
const maxFileBytes = 1024 * 1024;

/** Looks the directory through. Never rejects: what is wrong is in the answer. */
export async function loadConfig(directory: string): Promise<LoadedConfig> {
  const rejected: RejectedFile[] = [];
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    return { kind: "none", reason: `directory ${directory} cannot be read: ${messageOf(error)}`, rejected };
  }
  const candidates = names.filter((name) => [".conflist", ".conf", ".json"].includes(extname(name))).sort(byBytes);
  for (const name of candidates) {
    const path = join(directory, name);
    const parsed = await readNetwork(path);
    if (parsed.kind === "network") return { kind: "found", path, network: parsed.network, rejected };
    rejected.push({ path, reason: parsed.reason });
  }
  return { kind: "none", reason: nothingValid(directory, rejected), rejected };
}

export type ParsedConfig =
  | { readonly kind: "network"; readonly network: NetworkConfig }
  | { readonly kind: "invalid"; readonly reason: string };

/** Checks a configuration's text; `list` says whether it must be a list or one plugin. */
export function parseNetwork(text: string, list: boolean): ParsedConfig {
  const file = parseObject(text);
  if (file === undefined) return invalid("it is not a JSON object");
  const plugins = list ? asArray(member(file, "plugins")) : [file];
  if (!list && member(file, "plugins") !== undefined)
    return invalid('it has "plugins", so its name must end in .conflist');
  if (plugins === undefined || plugins.length === 0) return invalid('"plugins" must be a list of at least one plugin');

  const name = asString(member(file, "name"));
  if (name === undefined || !isIdentifier(name))
    return invalid('"name" must be letters, digits, "_", "." and "-", the first a letter or digit');
  const cniVersion = chooseVersion(file);
  if (cniVersion === undefined)
    return invalid(`neither "cniVersion" nor "cniVersions" names a version of ${cniVersions.join(", ")}`);

  const checked: PluginConfig[] = [];
  for (const [index, value] of plugins.entries()) {
    const config = asObject(value);
    const fault = config === undefined ? "is not an object" : faultOfPlugin(config);
    if (config === undefined || fault !== undefined) return invalid(`plugin ${index + 1} ${fault}`);
    checked.push({ type: asString(member(config, "type")) ?? "", config });
  }
  const network: NetworkConfig = {
    name,
    cniVersion,
    disableCheck: isTrue(file, "disableCheck"),
    disableGc: isTrue(file, "disableGC"),
    plugins: checked,
  };
  return { kind: "network", network };
}

/** Spec section 2: container ids and network names. */
export function isIdentifier(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text) && text.length <= 253;
}

async function readNetwork(path: string): Promise<ParsedConfig> {
  try {
    return parseNetwork(await readBounded(path, maxFileBytes), extname(path) === ".conflist");
  } catch (error) {
    return invalid(error instanceof UnfitFile ? error.message : `it cannot be read: ${messageOf(error)}`);
  }
}

/** Spec 1.1.0: of `cniVersions` and `cniVersion` the highest that we speak. */
function chooseVersion(file: JsonObject): CniVersion | undefined {
  const offered = [...(asArray(member(file, "cniVersions")) ?? []), member(file, "cniVersion")];
  return cniVersions.findLast((version) => offered.includes(version));
}

function faultOfPlugin(config: JsonObject): string | undefined {
  const type = asString(member(config, "type"));
  if (type === undefined || type === "") return 'has no "type"';
  if (!isFileName(type)) return `has the "type" ${JSON.stringify(type)}, which must be a plain file name`;
  const ipam = asObject(member(config, "ipam"));
  const ipamType = ipam && asString(member(ipam, "type"));
  if (ipamType !== undefined && ipamType !== "" && !isFileName(ipamType))
    return `has the "ipam" type ${JSON.stringify(ipamType)}, which must be a plain file name`;
  return undefined;
}

/** A type names a file of the plugin directories and must not lead out of them (CVE-2021-20206). */
function isFileName(type: string): boolean {
  return !type.includes("/") && !type.includes("\\") && !type.includes("\0") && type !== "." && !type.includes("..");
}

function isTrue(file: JsonObject, name: string): boolean {
  const value = member(file, name);
  // disableCheck is written as a string in some files in the field.
  return value === true || value === "true";
}

function nothingValid(directory: string, rejected: readonly RejectedFile[]): string {
  if (rejected.length === 0) return `no *.conflist, *.conf or *.json file in ${directory}`;
  const [first] = rejected;
  const more = rejected.length > 1 ? ` (and ${rejected.length - 1} more)` : "";
  return `no valid file in ${directory}: ${first?.path}: ${first?.reason}${more}`;
}

function byBytes(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

function invalid(reason: string): ParsedConfig {
  return { kind: "invalid", reason };
}
