// The bytes sent by clients of the streaming server: upgrade requests, SPDY frames and masked WebSocket frames.

import { constants, createDeflate } from "node:zlib";
import { ControlType, controlFrame, numbers } from "../spdy/frames.ts";
import { headerDictionary } from "../spdy/headers.ts";

/** `lines`: additional headers. */
export function upgradeRequest(path: string, upgrade: string, lines: readonly string[]): Buffer {
  const all = [`GET ${path} HTTP/1.1`, "Host: 127.0.0.1", "Connection: Upgrade", `Upgrade: ${upgrade}`, ...lines];
  return Buffer.from(`${all.join("\r\n")}\r\n\r\n`);
}

export function spdyRequest(path: string, protocol: string): Buffer {
  return upgradeRequest(path, "SPDY/3.1", [`X-Stream-Protocol-Version: ${protocol}`]);
}

export function webSocketRequest(path: string, protocol: string): Buffer {
  const lines = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="];
  return upgradeRequest(path, "websocket", protocol === "" ? lines : [...lines, `Sec-WebSocket-Protocol: ${protocol}`]);
}

/** A client's side of a SPDY connection: its header blocks share one deflate context. */
export class SpdyClientBytes {
  readonly #deflate = createDeflate({ dictionary: headerDictionary });

  async synStream(id: number, headers: Readonly<Record<string, string>>, flags = 0): Promise<Buffer> {
    const block = await this.block(headers);
    return controlFrame(ControlType.synStream, flags, Buffer.concat([numbers(id, 0), Buffer.alloc(2), block]));
  }

  async block(headers: Readonly<Record<string, string>>): Promise<Buffer> {
    const entries = Object.entries(headers);
    const plain = Buffer.concat([numbers(entries.length), ...entries.flat().map(sized)]);
    return await new Promise((resolve) => {
      const parts: Buffer[] = [];
      const collect = (part: Buffer) => parts.push(part);
      this.#deflate.on("data", collect);
      this.#deflate.write(plain);
      this.#deflate.flush(constants.Z_SYNC_FLUSH, () => {
        this.#deflate.off("data", collect);
        resolve(Buffer.concat(parts));
      });
    });
  }

  close(): void {
    this.#deflate.destroy();
  }
}

function sized(text: string): Buffer {
  return Buffer.concat([numbers(text.length), Buffer.from(text, "latin1")]);
}

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A complete masked frame, as clients must send them. */
export function webSocketFrame(opcode: number, payload: Buffer, { fin = true, mask = "37fa213d" } = {}): Buffer {
  const first = (fin ? 0x80 : 0) | opcode;
  const length = payload.length;
  const head =
    length < 126
      ? Buffer.from([first, 0x80 | length])
      : length < 65_536
        ? Buffer.from([first, 0x80 | 126, length >> 8, length & 255])
        : Buffer.concat([Buffer.from([first, 0x80 | 127]), numbers(0, length)]);
  const key = Buffer.from(mask, "hex");
  return Buffer.concat([head, key, payload.map((byte, at) => byte ^ (key[at % 4] ?? 0))]);
}
