// `keelson image`: what is in the running daemon's store, what comes into it and what goes.

import type { keelson, runtime } from "../api/generated/messages.js";
import { criErrors } from "../errors.ts";
import { Report } from "../play/report.ts";
import { connectDaemon, loadImage } from "./daemon-client.ts";
import { columns, json, type Output, size } from "./print.ts";

export interface ImageCommand {
  readonly socket: string;
  readonly output: Output;
  readonly signal: AbortSignal;
}

export async function listImages({ socket, output, signal }: ImageCommand): Promise<string> {
  using daemon = connectDaemon(socket);
  const { images } = await daemon.listImages({}, signal);
  const views = images.map(viewOf).sort((a, b) => (a.names[0] ?? "~").localeCompare(b.names[0] ?? "~"));
  if (output === "json") return json(views);
  const rows = views.map(({ id, names, bytes }) => [names[0] ?? "<none>", shortId(id), size(bytes)]);
  return columns([["IMAGE", "ID", "SIZE"], ...rows]);
}

/** The daemon tells how long a pull takes, and nothing of its bytes: on a terminal a line says that it goes on. */
export async function pullImage(reference: string, { socket, output, signal }: ImageCommand): Promise<string> {
  using daemon = connectDaemon(socket);
  const report = await Report.to(process.stderr);
  using _ = report.pulling(reference);
  const { imageRef } = await daemon.pullImage({ image: { image: reference } }, signal);
  return output === "json" ? json({ id: imageRef, reference }) : `${imageRef} ${reference}\n`;
}

/** All of them or, at the first that is not there, those before it. */
export async function removeImages(
  references: readonly string[],
  { socket, output, signal }: ImageCommand,
): Promise<string> {
  using daemon = connectDaemon(socket);
  const removed: string[] = [];
  for (const reference of references) {
    const { image } = await daemon.imageStatus({ image: { image: reference } }, signal);
    if (!image?.id) throw criErrors.noImageOfName({ image: reference });
    await daemon.removeImage({ image: { image: reference } }, signal);
    removed.push(image.id);
  }
  return output === "json" ? json(removed) : removed.map((id) => `${id}\n`).join("");
}

export async function loadImages(file: string, { socket, output, signal }: ImageCommand): Promise<string> {
  const loaded = await loadImage(socket, file, signal);
  const views = loaded.map(({ id, tags, size: bytes }: keelson.v1.LoadedImage.$Properties) => ({
    id: id ?? "",
    names: tags ?? [],
    bytes: Number(bytes ?? 0),
  }));
  return output === "json" ? json(views) : views.map(({ id, names }) => `${[id, ...names].join(" ")}\n`).join("");
}

function viewOf({ id, repoTags, repoDigests, size: bytes, pinned }: runtime.v1.Image.$Properties) {
  return {
    id: id ?? "",
    names: [...(repoTags ?? []), ...(repoDigests ?? [])],
    bytes: Number(bytes ?? 0),
    pinned: pinned ?? false,
  };
}

function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}
