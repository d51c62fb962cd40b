// SPDY/3.1 header blocks: names and values, deflated with one compression context per direction of a connection.
// Source: SPDY Protocol Draft 3.1, section 2.6.10.

import { constants, createInflate, type Inflate } from "node:zlib";
import { SpdyError } from "./frames.ts";

/** Limits on a peer's headers, checked while inflating. */
const maxInflatedBytes = 64 << 10;
const maxHeaders = 100;

const dictionaryNames =
  "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow " +
  "authorization cache-control connection content-base content-encoding content-language content-length " +
  "content-location content-md5 content-range content-type date etag expect expires from host if-match " +
  "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma " +
  "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade " +
  "user-agent vary via warning www-authenticate";
const dictionaryPairs = [
  "method",
  "get",
  "status",
  "200 OK",
  "version",
  "HTTP/1.1",
  "url",
  "public",
  "set-cookie",
  "keep-alive",
  "origin",
];
const dictionaryTail =
  "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505" +
  "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden" +
  "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable" +
  "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT" +
  "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript," +
  "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/** The initial dictionary of SPDY/3: 1,423 bytes, its zlib id is 0xe3c6a7c2. */
export const headerDictionary = Buffer.concat([
  ...[...dictionaryNames.split(" "), ...dictionaryPairs].map(sized),
  Buffer.from(dictionaryTail),
]);

function sized(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Inflates the peer's header blocks; one call at a time. */
export class HeaderDecoder {
  readonly #inflate: Inflate = createInflate({ dictionary: headerDictionary, finishFlush: constants.Z_SYNC_FLUSH });

  constructor() {
    this.#inflate.on("error", () => undefined);
  }

  /** Rejects with a SpdyError if a block is corrupt or too large. */
  async decode(block: Buffer): Promise<ReadonlyMap<string, string>> {
    return parseHeaders(await this.#inflated(block));
  }

  close(): void {
    this.#inflate.destroy();
  }

  async #inflated(block: Buffer): Promise<Buffer> {
    const inflate = this.#inflate;
    const parts: Buffer[] = [];
    let size = 0;
    return await new Promise((resolve, reject) => {
      const settle = (outcome: () => void) => {
        inflate.off("data", onData).off("error", onError).off("close", onClose);
        outcome();
      };
      const onData = (part: Buffer) => {
        size += part.length;
        parts.push(part);
        if (size <= maxInflatedBytes) return;
        settle(() => reject(new SpdyError(`headers of more than ${maxInflatedBytes} bytes`)));
        inflate.destroy();
      };
      const onError = (error: Error) =>
        settle(() =>
          reject(error instanceof SpdyError ? error : new SpdyError(`headers that do not inflate: ${error.message}`)),
        );
      const onClose = () => settle(() => reject(new SpdyError("the connection ended within a header block")));
      inflate.on("data", onData).on("error", onError).on("close", onClose);
      // The write's callback comes before the last output is emitted, so wait for the flush after it.
      inflate.write(block);
      inflate.flush(constants.Z_SYNC_FLUSH, () => {
        settle(() => resolve(Buffer.concat(parts)));
      });
    });
  }
}

/**
 * Our own header blocks: all are empty, so each is the count 0 in a stored deflate block, followed by a flush. They do
 * not depend on earlier blocks and may be created in any order, except the first, which begins the zlib stream and
 * names the dictionary (RFC 1950, 2.2; RFC 1951, 3.2.4).
 */
export class EmptyHeaders {
  #begun = false;

  next(): Buffer {
    const block = Buffer.from("000400fbff00000000000000ffff", "hex");
    if (this.#begun) return block;
    this.#begun = true;
    return Buffer.concat([Buffer.from("78bbe3c6a7c2", "hex"), block]);
  }
}

/** Counts and lengths come from the peer: each is checked against the actual data. */
export function parseHeaders(plain: Buffer): ReadonlyMap<string, string> {
  let at = 0;
  const number = (): number => {
    if (at + 4 > plain.length) throw new SpdyError("a header block that ends early");
    const value = plain.readUInt32BE(at);
    at += 4;
    return value;
  };
  const text = (): string => {
    const length = number();
    if (length > plain.length - at) throw new SpdyError("a header longer than its block");
    const value = plain.toString("latin1", at, at + length);
    at += length;
    return value;
  };
  const count = number();
  if (count > maxHeaders) throw new SpdyError(`a block of ${count} headers`);
  const headers = new Map<string, string>();
  for (let index = 0; index < count; index += 1) headers.set(text().toLowerCase(), text());
  return headers;
}
