// What the host's SELinux policy says of containers: read once, when the daemon starts.
// Sources: selinux(8), selinux_lxc_contexts_path(3), security_canonicalize_context(3).

import { access, constants, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../../native/index.ts";
import { type Label, labelText, parseLabel } from "./selinux-label.ts";

export interface ContainerPolicy {
  readonly kind: "on";
  /** Of a container's processes, and of what it mounts: before a pod has its categories. */
  readonly process: Label;
  readonly file: Label;
  /** c0 to c1023, to keep pods apart. */
  readonly hasCategories: boolean;
  /** A label as the kernel spells it; undefined for one that the policy does not know. */
  canonical(label: string): Promise<string | undefined>;
}

/** `unlabelled`: SELinux is active, and nothing says which labels containers have. */
export type Selinux =
  | { readonly kind: "off" }
  | { readonly kind: "unlabelled"; readonly reason: string }
  | ContainerPolicy;

export interface PolicyPlaces {
  /** Mounted only while SELinux is enabled, enforcing or permissive. */
  readonly selinuxfs: string;
  readonly configuration: string;
  /** Where containers' policies bring their contexts to hosts whose own has none. */
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
  if (text === undefined) return { kind: "unlabelled", reason: `there is no ${own}` };
  const [process, file] = [labelOf(text, "process"), labelOf(text, "file")];
  if (process === undefined || file === undefined)
    return { kind: "unlabelled", reason: `${own} names no labels for a process and a file` };
  for (const label of [process, file].map(labelText))
    if ((await canonical(label)) === undefined)
      return { kind: "unlabelled", reason: `the loaded policy does not know ${label}` };
  const hasCategories =
    process.level !== "" && (await canonical(labelText(withCategories(process, 0, 1023)))) !== undefined;
  return { kind: "on", process, file, hasCategories, canonical };
}

/**
 * The label of this process, if the policy does not let it start containers' processes: an enforcing one then refuses
 * every execve. Undefined where it may, and where nobody can tell.
 */
export async function unfitLabel({ process }: ContainerPolicy, ask = askKernel): Promise<string | undefined> {
  try {
    const { own, isAllowed } = await ask(labelText(process));
    return isAllowed ? undefined : own;
  } catch {
    return undefined;
  }
}

/** By selinuxfs' "access", which answers with the allowed permissions of a class as bits. */
async function askKernel(target: string): Promise<{ readonly own: string; readonly isAllowed: boolean }> {
  const { selinuxfs } = hostPlaces;
  const own = untilNul(await readFile("/proc/self/attr/current"));
  const number = async (file: string) => Number(await readFile(join(selinuxfs, "class/process", file), "utf8"));
  const [processClass, transition] = [await number("index"), await number("perms/transition")];
  const answer = await transact(join(selinuxfs, "access"), `${own} ${target} ${processClass}`);
  const [allowed = ""] = answer.split(" ");
  if (!/^[0-9a-f]+$/.test(allowed)) throw new Error(`selinuxfs answers "${answer}"`);
  return { own, isAllowed: (BigInt(`0x${allowed}`) & (1n << BigInt(transition - 1))) !== 0n };
}

export function withCategories(label: Label, one: number, other: number): Label {
  const [sensitivity = "s0"] = label.level.split(":");
  const [low, high] = one < other ? [one, other] : [other, one];
  return { ...label, level: `${sensitivity}:c${low},c${high}` };
}

/** As in a container, which is shown the host's: by libselinux's convention SELinux is off there. */
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
    // Who may not ask learns it when a process is to have it.
    return label;
  }
}

/** Writes a question to a file of selinuxfs, and reads its answer. */
async function transact(path: string, question: string): Promise<string> {
  await using file = await open(path, "r+");
  await file.write(Buffer.from(`${question}\0`));
  const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(4096), position: 0 });
  return untilNul(buffer.subarray(0, bytesRead));
}

function untilNul(bytes: Buffer): string {
  return bytes.toString().split("\0")[0]?.trim() ?? "";
}
