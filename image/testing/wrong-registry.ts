// For tests: a registry that serves images from memory and misbehaves as the test requests.

import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import { type BuiltImage, sha256 } from "./build-image.ts";
import { listenOnLoopback } from "./listen.ts";

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** Answers a request and returns true, or leaves it to the normal handler. */
export type Interception = (request: SeenRequest, response: ServerResponse) => boolean | Promise<boolean>;

export interface WrongRegistry {
  readonly address: string;
  readonly requests: readonly SeenRequest[];
  /** Requests whose URL contains this. */
  seen(part: string): readonly SeenRequest[];
  /** Serves an image under every repository name, by digest and by this tag. */
  add(image: BuiltImage, tag: string): void;
  addManifest(tag: string, bytes: Buffer, mediaType: string): void;
  /** Bytes to serve for a digest, which they need not match. */
  setBlob(digest: string, bytes: Buffer): void;
  stop(): Promise<void>;
}

export async function startWrongRegistry(
  intercept: Interception = () => false,
  tls?: { readonly cert: Buffer; readonly key: Buffer },
): Promise<WrongRegistry> {
  const manifests = new Map<string, { bytes: Buffer; mediaType: string }>();
  const blobs = new Map<string, Buffer>();
  const requests: SeenRequest[] = [];

  const answer = async (incoming: IncomingMessage, response: ServerResponse) => {
    const body = Buffer.concat(await incoming.toArray()).toString();
    const request = { method: incoming.method ?? "", url: incoming.url ?? "", headers: incoming.headers, body };
    requests.push(request);
    if (await intercept(request, response)) return;
    const [, kind, name = ""] = /\/(manifests|blobs)\/([^?]+)/.exec(request.url) ?? [];
    const manifest = kind === "manifests" ? manifests.get(name) : undefined;
    const bytes = manifest?.bytes ?? (kind === "blobs" ? blobs.get(name) : undefined);
    if (bytes === undefined) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(JSON.stringify({ errors: [{ code: "MANIFEST_UNKNOWN", message: "no such thing" }] }));
      return;
    }
    const start = Number(/^bytes=(\d+)-\d*$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    if (start > 0 && start >= bytes.length) {
      response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
      return;
    }
    const part = bytes.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, {
      "content-type": manifest?.mediaType ?? "application/octet-stream",
      "content-length": part.length,
      ...(manifest && { "docker-content-digest": sha256(manifest.bytes) }),
      ...(start > 0 && { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
    });
    response.end(part);
  };

  const listener = (incoming: IncomingMessage, response: ServerResponse) => {
    answer(incoming, response).catch(() => response.destroy());
  };
  const server = tls === undefined ? http.createServer(listener) : https.createServer(tls, listener);
  const port = await listenOnLoopback(server);

  return {
    address: `127.0.0.1:${port}`,
    requests,
    seen: (part) => requests.filter((request) => request.url.includes(part)),
    add: (image, tag) => {
      for (const name of [tag, image.digest]) {
        manifests.set(name, { bytes: image.manifest, mediaType: image.manifestType });
      }
      blobs.set(image.id, image.config);
      for (const layer of image.layers) blobs.set(layer.digest, layer.blob);
    },
    addManifest: (tag, bytes, mediaType) => manifests.set(tag, { bytes, mediaType }),
    setBlob: (digest, bytes) => blobs.set(digest, bytes),
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
