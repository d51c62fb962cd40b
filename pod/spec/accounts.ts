// The user and groups of a container's process, from the CRI request, the image's USER, and its passwd and group files.
// Limits on untrusted input: passwd and group (`accountFileLimit`), parsed line by line; numbers (`longestNumber`),
// checked before parsing; the image's USER when its config is read (image/config.ts).
// Sources: CRI v1 LinuxContainerSecurityContext; OCI image-spec config.md ("User"); passwd(5), group(5).

import type { LayerFile } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity, ContainerUser } from "../types.ts";

/** Reads files from the image's root, up to a limit, without following symlinks out of it. */
export type ReadAccounts = (paths: readonly string[], limitBytes: number) => Promise<readonly LayerFile[]>;

export interface Account extends ContainerUser {
  /** Home directory from passwd, as bytes of any encoding; "/" if passwd has none. */
  readonly home: Buffer;
}

const accountFileLimit = 1 << 20;
const maxId = 2_147_483_647n;
/** Maximum digits: parsing a number of four million digits takes a second. */
const longestNumber = 20;

/** Strings are raw bytes, decoded as latin1. */
interface PasswdEntry {
  readonly name: string;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly home: string;
}

interface Wish {
  /** A number is never looked up as a name (CVE-2016-3697). */
  readonly user: bigint | string;
  readonly group?: bigint | string;
}

/**
 * `imageUser`: the image's USER; `image`: its name, for messages. Rejects if the files do not have the user or group.
 */
export async function resolveAccount(
  security: ContainerSecurity,
  imageUser: string,
  image: string,
  read: ReadAccounts,
): Promise<Account> {
  const wish = wishOf(security, imageUser);
  const [passwdFile, groupFile] = await read(["/etc/passwd", "/etc/group"], accountFileLimit);
  const passwd = textOf(passwdFile, "/etc/passwd", image, typeof wish.user === "string");
  const groups = textOf(groupFile, "/etc/group", image, typeof wish.group === "string");

  const entry = findUser(passwd, wish.user);
  if (entry === undefined && typeof wish.user === "string") throw podErrors.userUnknown({ image, user: wish.user });
  const uid = typeof wish.user === "bigint" ? wish.user : (entry?.uid ?? 0n);
  const gid = primaryGroup(wish, entry, groups, image);
  return {
    uid: inRange("user", uid),
    gid: inRange("group", gid),
    supplementalGroups: supplementalGroups(security, entry?.name, gid, groups),
    home: Buffer.from(entry?.home || "/", "latin1"),
  };
}

function wishOf(security: ContainerSecurity, imageUser: string): Wish {
  const [imageName = "", imageGroup] = imageUser.split(":", 2);
  const group =
    security.runAsGroup ??
    (imageGroup === undefined || imageGroup === "" ? undefined : numberOrName("group", imageGroup));
  const withGroup = (user: bigint | string, ofImage: boolean): Wish => {
    const chosen = ofImage ? group : security.runAsGroup;
    return chosen === undefined ? { user } : { user, group: chosen };
  };
  if (security.runAsUser !== undefined) return withGroup(security.runAsUser, false);
  if (security.runAsUsername !== "") return withGroup(numberOrName("user", security.runAsUsername), false);
  return withGroup(imageName === "" ? 0n : numberOrName("user", imageName), true);
}

function numberOrName(kind: "user" | "group", text: string): bigint | string {
  if (!/^\d+$/.test(text)) return text;
  if (text.length > longestNumber) throw podErrors.idOutOfRange({ kind, id: `${text.slice(0, longestNumber)}…` });
  return BigInt(text);
}

function primaryGroup(wish: Wish, entry: PasswdEntry | undefined, groups: string, image: string): bigint {
  if (wish.group === undefined) return entry?.gid ?? 0n;
  if (typeof wish.group === "bigint") return wish.group;
  const gid = findGroup(groups, wish.group);
  if (gid === undefined) throw podErrors.groupUnknown({ image, group: wish.group });
  return gid;
}

/**
 * Starts with the primary group, so that files that deny access to that group stay protected (CVE-2022-2989 and
 * similar).
 */
function supplementalGroups(
  security: ContainerSecurity,
  name: string | undefined,
  gid: bigint,
  groups: string,
): bigint[] {
  const all = new Set<bigint>([gid]);
  if (security.supplementalGroupsPolicy === "merge" && name !== undefined) {
    for (const group of groupsWith(groups, name)) all.add(inRange("group", group));
  }
  for (const group of security.supplementalGroups) all.add(inRange("group", group));
  return [...all];
}

function inRange(kind: "user" | "group", id: bigint): bigint {
  if (id < 0n || id > maxId) throw podErrors.idOutOfRange({ kind, id: id.toString() });
  return id;
}

/** A malformed file is an error only when it is needed to look up a name. */
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

/** Returns the first matching line; only that line is fully parsed. */
function findUser(passwd: string, user: bigint | string): PasswdEntry | undefined {
  const wanted = typeof user === "string" ? asRead(user) : user;
  for (const line of linesOf(passwd)) {
    const [name, , uid, gid, , home] = line.split(":", 6);
    if (!name || uid === undefined || gid === undefined || !isNumber(uid) || !isNumber(gid)) continue;
    const isWanted = typeof wanted === "string" ? name === wanted : BigInt(uid) === wanted;
    // Environment variables cannot contain NUL: like the monitor, treat such a line as one without a home.
    const named = home === undefined || home.includes("\0") ? "" : home;
    if (isWanted) return { name, uid: BigInt(uid), gid: BigInt(gid), home: named };
  }
  return undefined;
}

function findGroup(group: string, wantedName: string): bigint | undefined {
  const wanted = asRead(wantedName);
  for (const line of linesOf(group)) {
    const [name, , gid] = line.split(":", 3);
    if (name === wanted && gid !== undefined && isNumber(gid)) return BigInt(gid);
  }
  return undefined;
}

function* groupsWith(group: string, member: string): Generator<bigint> {
  for (const line of linesOf(group)) {
    const [name, , gid, members] = line.split(":", 4);
    if (!name || gid === undefined || !isNumber(gid)) continue;
    if (members?.split(",").includes(member)) yield BigInt(gid);
  }
}

/** Converts a name from the request or the image's config to the form it has in a file decoded as latin1. */
function asRead(name: string): string {
  return Buffer.from(name).toString("latin1");
}

/** Skips empty lines. */
function* linesOf(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found;
    if (end > start) yield text.slice(start, end);
    start = end + 1;
  }
}

function isNumber(text: string): boolean {
  return /^\d{1,20}$/.test(text);
}
