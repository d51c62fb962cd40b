// `keelson image`: lists, pulls, loads, saves, tags and removes images in the running daemon's store.

import type { keelson, runtime } from "../api/generated/messages.js";
import { criErrors } from "../errors.ts";
import { Report } from "../play/report.ts";
import type { ImageVerb } from "./commands.ts";
import { connectDaemon, loadImage, transferred } from "./daemon-client.ts";
import { type ArchiveContents, archiveInput, openArchiveContents, writeArchive } from "./image-archive.ts";
import { columns, json, type Output, size } from "./print.ts";

export interface ImageCommand {
  readonly socket: string;
  readonly output: Output;
  readonly signal: AbortSignal;
}

/** The implementation of each verb; resolves to the text to print. */
export const imageWork: {
  readonly [Verb in ImageVerb]: (operands: readonly string[], command: ImageCommand) => Promise<string>;
} = {
  ls: (_, command) => listImages(command),
  pull: ([reference = ""], command) => pullImage(reference, command),
  load: ([file = ""], command) => loadImages(file, command),
  save: ([file = "", ...references], command) => saveImages(file, references, command),
  tag: ([image = "", name = ""], command) => tagImage(image, name, command),
  rm: removeImages,
};

async function listImages({ socket, output, signal }: ImageCommand): Promise<string> {
  using daemon = connectDaemon(socket);
  const { images } = await daemon.listImages({}, signal);
  const views = images.map(viewOf).sort((a, b) => (a.names[0] ?? "~").localeCompare(b.names[0] ?? "~"));
  if (output === "json") return json(views);
  const rows = views.map(({ id, names, bytes }) => [names[0] ?? "<none>", shortId(id), size(bytes)]);
  return columns([["IMAGE", "ID", "SIZE"], ...rows]);
}

async function pullImage(reference: string, { socket, output, signal }: ImageCommand): Promise<string> {
  using daemon = connectDaemon(socket);
  using shown = await showProgress(reference, "pulling");
  const [image] = await transferred(daemon.pull({ image: reference }, signal), shown.progress);
  const id = image?.id ?? "";
  return output === "json" ? json({ id, reference }) : `${id} ${reference}\n`;
}

/** Removes none of them if one does not exist. Several references may name the same image. */
async function removeImages(references: readonly string[], { socket, output, signal }: ImageCommand): Promise<string> {
  using daemon = connectDaemon(socket);
  const ids = new Set<string>();
  for (const reference of references) {
    const { image } = await daemon.imageStatus({ image: { image: reference } }, signal);
    if (!image?.id) throw criErrors.noImageOfName({ image: reference });
    ids.add(image.id);
  }
  for (const id of ids) await daemon.removeImage({ image: { image: id } }, signal);
  return output === "json" ? json([...ids]) : [...ids].map((id) => `${id}\n`).join("");
}

async function loadImages(file: string, { socket, output, signal }: ImageCommand): Promise<string> {
  using shown = await showProgress(file, "loading");
  await using input = await archiveInput(file, signal);
  const views = (await loadImage(socket, input.path, signal, shown.progress)).map(loadedView);
  return output === "json" ? json(views) : views.map(line).join("");
}

async function tagImage(image: string, name: string, command: ImageCommand): Promise<string> {
  using daemon = connectDaemon(command.socket);
  const { image: tagged } = await daemon.tag({ image, name }, command.signal);
  const view = loadedView(tagged ?? {});
  return command.output === "json" ? json(view) : line(view);
}

/** Prints nothing in text mode: standard output may be the archive. */
async function saveImages(
  file: string,
  references: readonly string[],
  { socket, output, signal }: ImageCommand,
): Promise<string> {
  if (file === "-" && process.stdout.isTTY) throw criErrors.terminal({ what: "written to" });
  await using contents = await openContents(socket, references, signal);
  const total = contents.blobs.reduce((sum, blob) => sum + blob.size, 0);
  using shown = await showProgress(file, "saving");
  await writeArchive(file, contents, signal, (done) => shown.progress(done, total));
  return output === "json" && file !== "-" ? json({ file, images: references, bytes: total }) : "";
}

/** The daemon keeps the images until all of their blobs are open, so writing the archive may take any time. */
async function openContents(
  socket: string,
  references: readonly string[],
  signal: AbortSignal,
): Promise<ArchiveContents & AsyncDisposable> {
  using daemon = connectDaemon(socket);
  for await (const { index, blobs } of daemon.save({ images: [...references] }, signal)) {
    return await openArchiveContents(
      index,
      blobs.map(({ digest, size: bytes, path }) => ({
        digest: digest ?? "",
        size: Number(bytes ?? 0),
        path: path ?? "",
      })),
    );
  }
  throw criErrors.daemonUnreachable({ socket, reason: "it ended the call without an answer" });
}

async function showProgress(subject: string, verb: string) {
  const report = await Report.to(process.stderr);
  const shown = report.pulling(subject, verb);
  return {
    progress: (done: number, total: number) => {
      if (total > 0) shown.progress(`${Math.floor((100 * done) / total)}% of ${size(total)}, `);
    },
    [Symbol.dispose]: () => shown[Symbol.dispose](),
  };
}

function loadedView({ id, tags, size: bytes }: keelson.v1.LoadedImage.$Properties) {
  return { id: id ?? "", names: tags ?? [], bytes: Number(bytes ?? 0) };
}

function line({ id, names }: ReturnType<typeof loadedView>): string {
  return `${[id, ...names].join(" ")}\n`;
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
