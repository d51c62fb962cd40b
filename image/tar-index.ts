// The members of a tar file and the offsets of their content, without reading it
// (POSIX.1-2024 pax, "ustar Interchange Format"; GNU long names and base-256 sizes).
//
// Only for the outer tar of an image archive. Nothing is extracted, so no member's name or link can reach a file of
// this machine.
//
// Bounds: headers of any kind (`headerLimit`), extension headers before one member (`extensionsPerMember`), the bytes
// of each (`extensionLimit`), a name (`nameLimit`) and all names together (`namesLimit`). Work is linear in the
// headers; content is skipped. The code yields to the event loop at least every `windowSize` bytes of headers.

import type { FileHandle } from "node:fs/promises";
import path from "node:path";

export interface TarFile {
  readonly kind: "file";
  /** Where the content starts, bytes from the tar's start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** A link's target is the name of the member it refers to, normalised like all names. */
export type TarMember = TarFile | { readonly kind: "link"; readonly target: string } | { readonly kind: "other" };

export class MalformedTar extends Error {}

const block = 512;
const headerLimit = 200_000;
/** A pax header, a GNU long name and a GNU long link; twice that, for writers that repeat them. */
const extensionsPerMember = 6;
/** Longest pax header or GNU long name that is read: PATH_MAX with room for other records. */
const extensionLimit = 64 * 1024;
/** Bytes: PATH_MAX. */
const nameLimit = 4096;
/** Bytes, including link targets. */
const namesLimit = 16 * 1024 * 1024;
/** Bytes per read, so that small members do not need a read each. */
const windowSize = 64 * 1024;

const zeroBlock = Buffer.alloc(block);

/** The fields that extension headers set for the member after them. */
interface Overrides {
  path?: string;
  linkpath?: string;
  size?: number;
}

/** Reads all headers. For a name that occurs twice the later member wins, as when unpacking. Throws MalformedTar. */
export async function indexTar(handle: FileHandle, signal: AbortSignal): Promise<ReadonlyMap<string, TarMember>> {
  const members = new Map<string, TarMember>();
  const end = (await handle.stat()).size;
  const window = new Window(handle);
  let overrides: Overrides = {};
  let extensions = 0;
  let namesLength = 0;
  let position = 0;
  for (let headers = 0; position + block <= end; headers++) {
    signal.throwIfAborted();
    if (headers === headerLimit) throw new MalformedTar(`it has more than ${headerLimit} headers`);
    const header = await window.read(position, block);
    position += block;
    if (header.equals(zeroBlock)) break;
    checkSum(header, position - block);
    const type = String.fromCharCode(header[156] ?? 0);
    const isExtension = type === "x" || type === "L" || type === "K";
    const isMember = !isExtension && type !== "g";
    // Links, devices, directories and FIFOs have no content: some writers put the target's size in a link's header.
    const size = /[1-6]/.test(type) ? 0 : ((isMember ? overrides.size : undefined) ?? numberField(header, 124, 12));
    if (position + size > end) throw new MalformedTar(`it ends inside the member at byte ${position}`);
    if (isExtension) {
      if (size > extensionLimit) throw new MalformedTar(`a header of ${size} bytes at byte ${position}`);
      if (++extensions > extensionsPerMember) {
        throw new MalformedTar(`more than ${extensionsPerMember} extended headers for one member at byte ${position}`);
      }
      const content = await window.read(position, size);
      if (type === "x") readPaxRecords(content, overrides);
      else overrides[type === "L" ? "path" : "linkpath"] = nameIn(content);
    } else if (isMember) {
      const name = cleanName(overrides.path ?? ustarName(header));
      const link = overrides.linkpath ?? textField(header, 157, 100);
      namesLength += name.length + link.length;
      if (namesLength > namesLimit) throw new MalformedTar(`its names are longer than ${namesLimit} bytes in total`);
      members.set(name, member(type, name, position, size, link));
      overrides = {};
      extensions = 0;
    }
    position += Math.ceil(size / block) * block;
  }
  if (members.size === 0) throw new MalformedTar("it has no members");
  return members;
}

/** Reads a file forward in pieces of `windowSize`; skips parts that are not requested. */
class Window {
  readonly #handle: FileHandle;
  readonly #buffer = Buffer.alloc(windowSize);
  #start = 0;
  #length = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Valid until the next call; at most `windowSize` bytes. Throws MalformedTar past the end. */
  async read(position: number, length: number): Promise<Buffer> {
    const isHeld = position >= this.#start && position + length <= this.#start + this.#length;
    if (!isHeld) await this.#fill(position, length);
    return this.#buffer.subarray(position - this.#start, position - this.#start + length);
  }

  async #fill(position: number, length: number): Promise<void> {
    this.#start = position;
    this.#length = 0;
    do {
      const room = windowSize - this.#length;
      const { bytesRead } = await this.#handle.read(this.#buffer, this.#length, room, position + this.#length);
      if (bytesRead === 0) throw new MalformedTar("it is truncated");
      this.#length += bytesRead;
    } while (this.#length < length);
  }
}

function member(type: string, name: string, offset: number, size: number, link: string): TarMember {
  if (type === "0" || type === "\0" || type === "7") return { kind: "file", offset, size };
  if (type === "1") return { kind: "link", target: cleanName(link) };
  if (type === "2") return { kind: "link", target: cleanName(path.posix.join(path.posix.dirname(name), link)) };
  return { kind: "other" };
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

function nameIn(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  if (length > nameLimit) throw new MalformedTar(`a name is longer than ${nameLimit} bytes`);
  return bytes.toString("utf8", 0, length);
}

function numberField(header: Buffer, offset: number, length: number): number {
  const first = header[offset] ?? 0;
  if ((first & 0x80) === 0) {
    const text = textField(header, offset, length).trim();
    const value = text === "" ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
    if (!Number.isSafeInteger(value)) throw new MalformedTar("a header has no valid size");
    return value;
  }
  // Base 256: the top bit is a marker, the next one the sign.
  let value = BigInt(first & 0x7f);
  for (const byte of header.subarray(offset + 1, offset + length)) value = value * 256n + BigInt(byte);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new MalformedTar("a header has no valid size");
  return Number(value);
}

function wholeNumber(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw new MalformedTar("a pax header has no valid size");
  return Number(text);
}

/** Parses records of the form `length key=value\n`; only those that affect a member's name or extent are kept. */
function readPaxRecords(content: Buffer, into: Overrides): void {
  for (let start = 0; start < content.length; ) {
    // A length has few digits; searching further for its end would make many small records quadratic work.
    const space = content.subarray(start, start + 8).indexOf(0x20);
    const length = space < 0 ? Number.NaN : Number(content.toString("latin1", start, start + space));
    const end = start + length;
    if (!Number.isSafeInteger(length) || length < 5 || end > content.length) {
      throw new MalformedTar("a pax header is damaged");
    }
    const record = content.subarray(start + space + 1, end - 1);
    const equals = record.indexOf("=");
    const key = record.toString("latin1", 0, Math.min(Math.max(equals, 0), 16));
    const value = record.subarray(equals + 1);
    if (key === "path" || key === "linkpath") into[key] = nameIn(value);
    else if (key === "size") into.size = wholeNumber(value.toString("latin1", 0, 20));
    start = end;
  }
}

function checkSum(header: Buffer, position: number): void {
  const wanted = numberField(header, 148, 8);
  let sum = 8 * 0x20;
  for (let index = 0; index < block; index++) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  if (sum !== wanted) throw new MalformedTar(`no tar header at byte ${position}`);
}
