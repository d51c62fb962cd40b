// Builds tar streams byte by byte, including ones that no tar program writes.

export interface TarEntry {
  readonly name: string;
  /** typeflag; "0", a file, when absent. */
  readonly type?: string;
  readonly content?: Buffer | string;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds since the epoch. */
  readonly mtime?: number;
  readonly device?: readonly [major: number, minor: number];
  /** "posix" when absent. */
  readonly magic?: "posix" | "gnu" | "v7";
  readonly prefix?: string;
  /** Records of an extended header before this entry. */
  readonly pax?: Readonly<Record<string, string | Buffer>>;
  /** Raw bytes written over the finished header, before the checksum is computed: [offset, bytes] each. */
  readonly patches?: readonly (readonly [offset: number, bytes: Buffer | string])[];
  /** Added to the correct checksum. */
  readonly checksumError?: number;
}

const block = 512;
const magics = { posix: "ustar\x0000", gnu: "ustar  \0", v7: "" };

/** The whole archive with its end mark. */
export function tar(...entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(2 * block)]);
}

/** One entry: extended header if it has one, header, padded content. */
export function tarEntry(entry: TarEntry): Buffer {
  const { pax, ...plain } = entry;
  const content = Buffer.from(entry.content ?? "");
  const parts = [header(plain, content.length), padded(content)];
  if (pax !== undefined) parts.unshift(tarEntry({ name: "PaxHeaders/x", type: "x", content: paxRecords(pax) }));
  return Buffer.concat(parts);
}

export function paxRecords(records: Readonly<Record<string, string | Buffer>>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
      let length = rest.length;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

function header(entry: TarEntry, size: number): Buffer {
  const bytes = Buffer.alloc(block);
  bytes.write(entry.name, 0, 100);
  octal(bytes, 100, 8, entry.mode ?? 0o644);
  octal(bytes, 108, 8, entry.uid ?? 0);
  octal(bytes, 116, 8, entry.gid ?? 0);
  octal(bytes, 124, 12, size);
  octal(bytes, 136, 12, entry.mtime ?? 1_600_000_000);
  bytes.write(entry.type ?? "0", 156);
  bytes.write(entry.link ?? "", 157, 100);
  bytes.write(magics[entry.magic ?? "posix"], 257, "latin1");
  octal(bytes, 329, 8, entry.device?.[0] ?? 0);
  octal(bytes, 337, 8, entry.device?.[1] ?? 0);
  bytes.write(entry.prefix ?? "", 345, 155);
  for (const [offset, patch] of entry.patches ?? []) Buffer.from(patch).copy(bytes, offset);
  bytes.fill(" ", 148, 156);
  let sum = entry.checksumError ?? 0;
  for (const byte of bytes) sum += byte;
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return bytes;
}

function octal(bytes: Buffer, offset: number, length: number, value: number): void {
  bytes.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, length);
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((block - (content.length % block)) % block)]);
}
