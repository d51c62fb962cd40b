// Whom a container's process runs as: CRI's wishes, the image's USER, the image's passwd and group files.
// Sources: CRI v1 LinuxContainerSecurityContext; OCI image-spec config.md ("User"); passwd(5), group(5).

import type { LayerFile } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity, ContainerUser } from "../types.ts";

/** Reads files of the image's root; bounded, never following links out of it. */
export type ReadAccounts = (paths: readonly string[], limitBytes: number) => Promise<readonly LayerFile[]>;

export interface Account extends ContainerUser {
  /** Home directory from passwd, "/" when there is none. */
  readonly home: string;
}

const accountFileLimit = 1 << 20;
const maxId = 2_147_483_647n;

interface PasswdEntry {
  readonly name: string;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: bigint;
  readonly members: readonly string[];
}

interface Wish {
  /** A number is never looked up as a name (CVE-2016-3697). */
  readonly user: bigint | string;
  readonly group?: bigint | string;
}

export async function resolveAccount(
  security: ContainerSecurity,
  imageUser: string,
  image: string,
  read: ReadAccounts,
): Promise<Account> {
  const wish = wishOf(security, imageUser);
  const [passwdFile, groupFile] = await read(["/etc/passwd", "/etc/group"], accountFileLimit);
  const passwd = parsePasswd(textOf(passwdFile, "/etc/passwd", image, typeof wish.user === "string"));
  const groups = parseGroup(textOf(groupFile, "/etc/group", image, typeof wish.group === "string"));

  const entry = passwd.find((candidate) =>
    typeof wish.user === "string" ? candidate.name === wish.user : candidate.uid === wish.user,
  );
  if (entry === undefined && typeof wish.user === "string") throw podErrors.userUnknown({ image, user: wish.user });
  const uid = typeof wish.user === "bigint" ? wish.user : (entry?.uid ?? 0n);
  const gid = primaryGroup(wish, entry, groups, image);
  return {
    uid: inRange("user", uid),
    gid: inRange("group", gid),
    supplementalGroups: supplementalGroups(security, entry?.name, gid, groups),
    home: entry?.home || "/",
  };
}

function wishOf(security: ContainerSecurity, imageUser: string): Wish {
  const [imageName = "", imageGroup] = imageUser.split(":", 2);
  const group =
    security.runAsGroup ?? (imageGroup === undefined || imageGroup === "" ? undefined : numberOrName(imageGroup));
  const withGroup = (user: bigint | string, ofImage: boolean): Wish => {
    const chosen = ofImage ? group : security.runAsGroup;
    return chosen === undefined ? { user } : { user, group: chosen };
  };
  if (security.runAsUser !== undefined) return withGroup(security.runAsUser, false);
  if (security.runAsUsername !== "") return withGroup(numberOrName(security.runAsUsername), false);
  return withGroup(imageName === "" ? 0n : numberOrName(imageName), true);
}

function numberOrName(text: string): bigint | string {
  return /^\d+$/.test(text) ? BigInt(text) : text;
}

function primaryGroup(
  wish: Wish,
  entry: PasswdEntry | undefined,
  groups: readonly GroupEntry[],
  image: string,
): bigint {
  if (wish.group === undefined) return entry?.gid ?? 0n;
  if (typeof wish.group === "bigint") return wish.group;
  const named = groups.find((candidate) => candidate.name === wish.group);
  if (named === undefined) throw podErrors.groupUnknown({ image, group: wish.group });
  return named.gid;
}

/** Begins with the primary group, so that a file's negative group permission cannot be dodged (CVE-2022-2989 and kin). */
function supplementalGroups(
  security: ContainerSecurity,
  name: string | undefined,
  gid: bigint,
  groups: readonly GroupEntry[],
): bigint[] {
  const all = new Set<bigint>([gid]);
  if (security.supplementalGroupsPolicy === "merge" && name !== undefined) {
    for (const group of groups) if (group.members.includes(name)) all.add(inRange("group", group.gid));
  }
  for (const group of security.supplementalGroups) all.add(inRange("group", group));
  return [...all];
}

function inRange(kind: "user" | "group", id: bigint): bigint {
  if (id < 0n || id > maxId) throw podErrors.idOutOfRange({ kind, id: id.toString() });
  return id;
}

/** A file that is not needed may be odd; one that must answer a name may not. */
function textOf(file: LayerFile | undefined, path: string, image: string, needed: boolean): string {
  if (file === undefined || file.kind === "missing") return "";
  if (file.kind === "file") return file.content.toString("latin1");
  if (!needed) return "";
  throw podErrors.accountFile({
    path,
    image,
    why: file.kind === "not-regular" ? "not a regular file" : "larger than 1 MiB",
  });
}

function parsePasswd(text: string): PasswdEntry[] {
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid, , home] = line.split(":");
    if (!name || uid === undefined || gid === undefined || !isNumber(uid) || !isNumber(gid)) return [];
    return [{ name, uid: BigInt(uid), gid: BigInt(gid), home: home ?? "" }];
  });
}

function parseGroup(text: string): GroupEntry[] {
  return text.split("\n").flatMap((line) => {
    const [name, , gid, members] = line.split(":");
    if (!name || gid === undefined || !isNumber(gid)) return [];
    return [{ name, gid: BigInt(gid), members: (members ?? "").split(",").filter((member) => member !== "") }];
  });
}

function isNumber(text: string): boolean {
  return /^\d{1,20}$/.test(text);
}
