// Reads the network configuration: the first valid file in the directory, in name order.
//
// CNI spec 1.1.0, section 1. A file is a list (*.conflist) or one plugin (*.conf, *.json), which
// becomes a list of one. A list's inlined plugins are followed by those of its network's folder, one per
// `<network name>/*.conf` file next to the list, as in libcni 1.3 (NetworkConfFromFile). A file that is
// invalid, or whose folder is, is skipped, and the reason is kept.

import { readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import {
  asArray,
  asObject,
  asString,
  isErrno,
  type JsonObject,
  member,
  messageOf,
  parseObject,
  readBounded,
  UnfitFile,
} from "../native/index.ts";

/** Supported CNI spec versions, oldest first. */
export const cniVersions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof cniVersions)[number];

export interface PluginConfig {
  readonly type: string;
  /** The plugin's object as it is in the file. */
  readonly config: JsonObject;
}

export interface NetworkConfig {
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly disableGc: boolean;
  readonly plugins: readonly PluginConfig[];
}

export interface RejectedFile {
  readonly path: string;
  readonly reason: string;
}

export type LoadedConfig = {
  readonly rejected: readonly RejectedFile[];
  /** Network folders that were searched, including missing ones. */
  readonly folders: readonly string[];
} & (
  | { readonly kind: "found"; readonly path: string; readonly network: NetworkConfig }
  | { readonly kind: "none"; readonly reason: string }
);

/** Larger files are rejected; real ones are below 10 KB. */
const maxFileBytes = 1024 * 1024;

/** Reads the directory. Never rejects: errors are part of the result. */
export async function loadConfig(directory: string): Promise<LoadedConfig> {
  const rejected: RejectedFile[] = [];
  const folders: string[] = [];
  const seen = { rejected, folders };
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    return { kind: "none", reason: `directory ${directory} cannot be read: ${messageOf(error)}`, ...seen };
  }
  const candidates = names.filter(isConfigFile).sort(byBytes);
  for (const name of candidates) {
    const path = join(directory, name);
    const file = await readFile(path);
    let parsed: ParsedConfig = file;
    if (file.kind === "network" && file.takesFolder) {
      // The name is an identifier, so it cannot lead outside the directory.
      const folder = join(directory, file.network.name);
      folders.push(folder);
      parsed = await withFolder(file.network, folder);
    }
    if (parsed.kind === "network") return { kind: "found", path, network: parsed.network, ...seen };
    rejected.push({ path, reason: parsed.reason });
  }
  return { kind: "none", reason: nothingValid(directory, rejected), ...seen };
}

/** Whether a file name is one of a network configuration, valid or not. */
export function isConfigFile(name: string): boolean {
  return [".conflist", ".conf", ".json"].includes(extname(name));
}

interface Invalid {
  readonly kind: "invalid";
  readonly reason: string;
}

export type ParsedConfig = { readonly kind: "network"; readonly network: NetworkConfig } | Invalid;

/** Checks a configuration's text; `list` says whether it must be a list or one plugin. */
export function parseNetwork(text: string, list: boolean): ParsedConfig {
  const file = parseFile(text, list);
  return file.kind === "network" && file.network.plugins.length === 0 ? invalid(noPlugins) : file;
}

const noPlugins = '"plugins" must be a list of at least one plugin';

/** The parsed text alone: a list that also takes the plugins of its network's folder may have none of its own. */
type ParsedFile =
  | { readonly kind: "network"; readonly network: NetworkConfig; readonly takesFolder: boolean }
  | Invalid;

function parseFile(text: string, list: boolean): ParsedFile {
  const file = parseObject(text);
  if (file === undefined) return invalid("it is not a JSON object");
  const inlined = member(file, "plugins");
  if (!list && inlined !== undefined) return invalid('it has "plugins", so its name must end in .conflist');
  const takesFolder = list && !isTrue(file, "loadOnlyInlinedPlugins");
  const plugins = list ? asArray(inlined ?? []) : [file];
  if (plugins === undefined || (plugins.length === 0 && (inlined !== undefined || !takesFolder)))
    return invalid(noPlugins);

  const name = asString(member(file, "name"));
  if (name === undefined || !isIdentifier(name))
    return invalid('"name" must be letters, digits, "_", "." and "-", starting with a letter or digit');
  const cniVersion = chooseVersion(file);
  if (cniVersion === undefined)
    return invalid(`neither "cniVersion" nor "cniVersions" names a supported version (${cniVersions.join(", ")})`);

  const checked: PluginConfig[] = [];
  for (const [index, value] of plugins.entries()) {
    const plugin = checkPlugin(asObject(value));
    if (typeof plugin === "string") return invalid(`plugin ${index + 1} ${plugin}`);
    checked.push(plugin);
  }
  const network: NetworkConfig = {
    name,
    cniVersion,
    disableGc: isTrue(file, "disableGC"),
    plugins: checked,
  };
  return { kind: "network", network, takesFolder };
}

/** Whether it is valid as a container id or network name (spec section 2). */
export function isIdentifier(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text) && text.length <= 253;
}

async function readFile(path: string): Promise<ParsedFile> {
  try {
    return parseFile(await readBounded(path, maxFileBytes), extname(path) === ".conflist");
  } catch (error) {
    return invalid(unreadable(error));
  }
}

/** The network with the plugins of its folder appended to its own. */
async function withFolder(network: NetworkConfig, folder: string): Promise<ParsedConfig> {
  const plugins = [...network.plugins];
  try {
    for (const name of await pluginFiles(folder)) {
      const plugin = await readPlugin(join(folder, name));
      if (typeof plugin === "string") return invalid(`its plugin file ${join(folder, name)} ${plugin}`);
      plugins.push(plugin);
    }
  } catch (error) {
    return invalid(`its folder ${folder} cannot be read: ${messageOf(error)}`);
  }
  if (plugins.length === 0) return invalid(`it has no "plugins", and there is no *.conf file in ${folder}`);
  return { kind: "network", network: { ...network, plugins } };
}

/** Sorted by name. */
async function pluginFiles(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  });
  // Not extname, which finds no extension in ".conf".
  const files = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith(".conf"));
  return files.map(({ name }) => name).sort(byBytes);
}

/** The plugin, or what is wrong with its file. */
async function readPlugin(path: string): Promise<PluginConfig | string> {
  try {
    return checkPlugin(parseObject(await readBounded(path, maxFileBytes)));
  } catch (error) {
    return `is rejected: ${unreadable(error)}`;
  }
}

function unreadable(error: unknown): string {
  return error instanceof UnfitFile ? error.message : `it cannot be read: ${messageOf(error)}`;
}

/** The highest supported version in `cniVersions` and `cniVersion` (spec 1.1.0). */
function chooseVersion(file: JsonObject): CniVersion | undefined {
  const offered = [...(asArray(member(file, "cniVersions")) ?? []), member(file, "cniVersion")];
  return cniVersions.findLast((version) => offered.includes(version));
}

/** The plugin, or what is wrong with it. */
function checkPlugin(config: JsonObject | undefined): PluginConfig | string {
  if (config === undefined) return "is not an object";
  const type = asString(member(config, "type"));
  if (type === undefined || type === "") return 'has no "type"';
  if (!isFileName(type)) return `has the "type" ${JSON.stringify(type)}, which must be a plain file name`;
  const ipam = asObject(member(config, "ipam"));
  const ipamType = ipam && asString(member(ipam, "type"));
  if (ipamType !== undefined && ipamType !== "" && !isFileName(ipamType))
    return `has the "ipam" type ${JSON.stringify(ipamType)}, which must be a plain file name`;
  return { type, config };
}

/** A type names a file in the plugin directories and must not lead outside them (CVE-2021-20206). */
function isFileName(type: string): boolean {
  return !type.includes("/") && !type.includes("\\") && !type.includes("\0") && type !== "." && !type.includes("..");
}

function isTrue(file: JsonObject, name: string): boolean {
  const value = member(file, name);
  // Some configurations have the value as a string, and templates write "True".
  return value === true || asString(value)?.toLowerCase() === "true";
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

function invalid(reason: string): Invalid {
  return { kind: "invalid", reason };
}
