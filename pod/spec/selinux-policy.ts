// The container labels of the host's SELinux policy, read once when the daemon starts.
// Sources: selinux(8), selinux_lxc_contexts_path(3), security_canonicalize_context(3).

import { access, constants, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../../native/index.ts";
import { type Label, labelText, parseLabel } from "./selinux-label.ts";

export interface ContainerPolicy {
  readonly kind: "on";
  /** The labels of a container's processes and of its mounts, without a pod's categories. */
  readonly process: Label;
  readonly file: Label;
  /** Whether the policy has categories c0 to c1023, to isolate pods. */
  readonly hasCategories: boolean;
  /** The label in the kernel's canonical form; undefined for one that is not valid in the policy. */
  canonical(label: string): Promise<string | undefined>;
}

/** `unlabelled`: SELinux is active, but the labels for containers are unknown. */
export type Selinux =
  | { readonly kind: "off" }
  | { readonly kind: "unlabelled"; readonly reason: string }
  | ContainerPolicy;

export interface PolicyPlaces {
  /** Mounted only while SELinux is enabled, enforcing or permissive. */
  readonly selinuxfs: string;
  readonly configuration: string;
  /** Contexts from container policy packages, for hosts whose own policy has none. */
  readonly shared: string;
}

const hostPlaces: PolicyPlaces = {
  selinuxfs: "/sys/fs/selinux",
  configuration: "/etc/selinux",
  shared: "/usr/share/containers/selinux/contexts",
};

export async function readSelinux(
  places = hostPlaces,
  canonical = (label: string) => canonicalByKernel(places.selinuxfs, label),
): Promise<Selinux> {
  const mls = await readFile(join(places.selinuxfs, "mls"), "utf8").catch(() => undefined);
  if (mls === undefined || (await isReadOnly(places))) return { kind: "off" };
  const own = join(places.configuration, await policyName(places), "contexts/lxc_contexts");
  const text = await readFile(own, "utf8").catch(() => readFile(places.shared, "utf8").catch(() => undefined));
  if (text === undefined) return { kind: "unlabelled", reason: `${own} does not exist` };
  const [process, file] = [labelOf(text, "process"), labelOf(text, "file")];
  if (process === undefined || file === undefined)
    return { kind: "unlabelled", reason: `${own} has no valid process and file labels` };
  for (const label of [process, file].map(labelText))
    if ((await canonical(label)) === undefined)
      return { kind: "unlabelled", reason: `${label} is not valid in the loaded policy` };
  const hasCategories =
    process.level !== "" && (await canonical(labelText(withCategories(process, 0, 1023)))) !== undefined;
  return { kind: "on", process, file, hasCategories, canonical };
}

/**
 * The label of this process, if the policy does not allow its transition to the container label: when enforcing, every
 * execve of a container then fails. Undefined when the transition is allowed or the check fails.
 */
export async function unfitLabel({ process }: ContainerPolicy, ask = askKernel): Promise<string | undefined> {
  try {
    const { own, isAllowed } = await ask(labelText(process));
    return isAllowed ? undefined : own;
  } catch {
    return undefined;
  }
}

/** Asks selinuxfs' "access" file, which returns the allowed permissions of a class as a bit mask. */
async function askKernel(target: string): Promise<{ readonly own: string; readonly isAllowed: boolean }> {
  const { selinuxfs } = hostPlaces;
  const own = untilNul(await readFile("/proc/self/attr/current"));
  const number = async (file: string) => Number(await readFile(join(selinuxfs, "class/process", file), "utf8"));
  const [processClass, transition] = [await number("index"), await number("perms/transition")];
  const answer = await transact(join(selinuxfs, "access"), `${own} ${target} ${processClass}`);
  const [allowed = ""] = answer.split(" ");
  if (!/^[0-9a-f]+$/.test(allowed)) throw new Error(`unexpected answer from selinuxfs: "${answer}"`);
  return { own, isAllowed: (BigInt(`0x${allowed}`) & (1n << BigInt(transition - 1))) !== 0n };
}

export function withCategories(label: Label, one: number, other: number): Label {
  const [sensitivity = "s0"] = label.level.split(":");
  const [low, high] = one < other ? [one, other] : [other, one];
  return { ...label, level: `${sensitivity}:c${low},c${high}` };
}

/** A read-only selinuxfs, as in a container that sees the host's, means SELinux is off (libselinux's convention). */
async function isReadOnly({ selinuxfs }: PolicyPlaces): Promise<boolean> {
  return await access(join(selinuxfs, "context"), constants.W_OK).then(
    () => false,
    (error: unknown) => isErrno(error, "EROFS"),
  );
}

async function policyName({ configuration }: PolicyPlaces): Promise<string> {
  const text = await readFile(join(configuration, "config"), "utf8").catch(() => "");
  return /^\s*SELINUXTYPE\s*=\s*([\w.-]+)\s*$/m.exec(text)?.[1] ?? "targeted";
}

/** Lines of `name = "label"`. */
function labelOf(text: string, key: string): Label | undefined {
  const line = new RegExp(`^\\s*${key}\\s*=\\s*"([^"]*)"\\s*$`, "m").exec(text);
  return line?.[1] === undefined ? undefined : parseLabel(line[1]);
}

async function canonicalByKernel(selinuxfs: string, label: string): Promise<string | undefined> {
  try {
    return await transact(join(selinuxfs, "context"), label);
  } catch (error) {
    if (isErrno(error, "EINVAL")) return undefined;
    // Not permitted to ask: an invalid label then fails when it is set on a process.
    return label;
  }
}

/** Writes a query to a selinuxfs file and reads the answer. */
async function transact(path: string, question: string): Promise<string> {
  await using file = await open(path, "r+");
  await file.write(Buffer.from(`${question}\0`));
  const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(4096), position: 0 });
  return untilNul(buffer.subarray(0, bytesRead));
}

function untilNul(bytes: Buffer): string {
  return bytes.toString().split("\0")[0]?.trim() ?? "";
}
