// The members of a tar file and where their content lies, without reading it
// (POSIX.1-2024 pax, "ustar Interchange Format"; GNU long names and base-256 sizes).
//
// For the outer tar of an image archive only. Nothing is extracted, so no member's name or link can
// reach a file of this machine; memory is bounded by the number of members.

import type { FileHandle } from "node:fs/promises";
import path from "node:path";

export interface TarMember {
  readonly kind: "file" | "link" | "other";
  /** Where the content starts, bytes from the file's start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** For a link: the member it stands for, normalised. */
  readonly target: string;
}

export class MalformedTar extends Error {}

const block = 512;
const memberLimit = 100_000;
/** Longest pax header or GNU long name that is read: PATH_MAX with room for other records. */
const extensionLimit = 64 * 1024;

/** Reads all headers. A name that comes twice means the later member, as when unpacking. Throws MalformedTar. */
export async function indexTar(handle: FileHandle): Promise<ReadonlyMap<string, TarMember>> {
  const members = new Map<string, TarMember>();
  const end = (await handle.stat()).size;
  const header = Buffer.alloc(block);
  let overrides = new Map<string, string>();
  let position = 0;
  while (position + block <= end) {
    await readFully(handle, header, position);
    position += block;
    if (header.every((byte) => byte === 0)) break;
    checkSum(header, position - block);
    const type = String.fromCharCode(header[156] ?? 0);
    const size = wholeNumber(overrides.get("size")) ?? numberField(header, 124, 12);
    if (position + size > end) throw new MalformedTar(`it ends inside the member at byte ${position}`);
    if (type === "x" || type === "L" || type === "K") {
      if (size > extensionLimit) throw new MalformedTar(`a header of ${size} bytes at byte ${position}`);
      const content = Buffer.alloc(size);
      await readFully(handle, content, position);
      if (type === "x") overrides = new Map([...overrides, ...paxRecords(content)]);
      else overrides.set(type === "L" ? "path" : "linkpath", textField(content, 0, size));
    } else if (type !== "g") {
      const name = cleanName(overrides.get("path") ?? ustarName(header));
      members.set(name, member(type, name, position, size, overrides.get("linkpath") ?? textField(header, 157, 100)));
      if (members.size > memberLimit) throw new MalformedTar(`it has more than ${memberLimit} members`);
      overrides = new Map();
    }
    position += Math.ceil(size / block) * block;
  }
  if (members.size === 0) throw new MalformedTar("it has no members");
  return members;
}

function member(type: string, name: string, offset: number, size: number, link: string): TarMember {
  if (type === "0" || type === "\0" || type === "7") return { kind: "file", offset, size, target: "" };
  if (type === "1") return { kind: "link", offset, size: 0, target: cleanName(link) };
  if (type === "2") {
    return { kind: "link", offset, size: 0, target: cleanName(path.posix.join(path.posix.dirname(name), link)) };
  }
  return { kind: "other", offset, size, target: "" };
}

function cleanName(name: string): string {
  return path.posix
    .normalize(name)
    .replace(/^\.?\/+/, "")
    .replace(/\/$/, "");
}

function ustarName(header: Buffer): string {
  const name = textField(header, 0, 100);
  // GNU tar's own format keeps times where ustar keeps the prefix.
  const isUstar = header.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isUstar ? textField(header, 345, 155) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

function textField(bytes: Buffer, offset: number, length: number): string {
  const field = bytes.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? field.length : end);
}

function numberField(header: Buffer, offset: number, length: number): number {
  const first = header[offset] ?? 0;
  if ((first & 0x80) === 0) {
    const text = textField(header, offset, length).trim();
    const value = text === "" ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
    if (!Number.isSafeInteger(value)) throw new MalformedTar("a header has no valid size");
    return value;
  }
  // Base 256: the top bit is a mark, the next one the sign.
  let value = BigInt(first & 0x7f);
  for (const byte of header.subarray(offset + 1, offset + length)) value = value * 256n + BigInt(byte);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new MalformedTar("a header has no valid size");
  return Number(value);
}

function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(text)) throw new MalformedTar("a pax header has no valid size");
  return Number(text);
}

/** Records of the form `length key=value\n`. */
function paxRecords(content: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let start = 0; start < content.length; ) {
    const space = content.indexOf(0x20, start);
    const length = Number(content.toString("latin1", start, Math.max(space, start)));
    const end = start + length;
    if (space < 0 || !Number.isSafeInteger(length) || length < 5 || end > content.length) {
      throw new MalformedTar("a pax header is damaged");
    }
    const record = content.toString("utf8", space + 1, end - 1);
    const equals = record.indexOf("=");
    if (equals > 0) records.set(record.slice(0, equals), record.slice(equals + 1));
    start = end;
  }
  return records;
}

function checkSum(header: Buffer, position: number): void {
  const wanted = numberField(header, 148, 8);
  let sum = 0;
  for (const [index, byte] of header.entries()) sum += index >= 148 && index < 156 ? 0x20 : byte;
  if (sum !== wanted) throw new MalformedTar(`no tar header at byte ${position}`);
}

async function readFully(handle: FileHandle, into: Buffer, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await handle.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new MalformedTar("it is cut off");
    done += bytesRead;
  }
}
