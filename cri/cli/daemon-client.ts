// The command line's client of the daemon: CRI image calls and Keelson's own calls, with readable errors.

import { access } from "node:fs/promises";
import { resolve } from "node:path";
import { type ServiceError, status } from "@grpc/grpc-js";
import { isErrno, KeelsonError } from "../../native/index.ts";
import { keelson, runtime } from "../api/generated/messages.js";
import { criErrors } from "../errors.ts";
import { type CallLimits, connectCalls, isServiceError } from "../grpc-calls.ts";

const answerMs = 10_000;
/** Reading, fetching and unpacking a large image is slow; after this the daemon is considered stuck. */
const transferMs = 60 * 60_000;

/** Calls of the daemon at `socket`. They reject with the daemon's own message, or with why there is no answer. */
export function connectDaemon(socket: string) {
  const { client, method, stream } = connectCalls(socket);
  const { v1 } = runtime;
  const own = keelson.v1;
  const clear =
    <Request, Response>(call: (request: Request, limits: CallLimits) => Promise<Response>) =>
    async (request: Request, signal: AbortSignal): Promise<Response> =>
      await call(request, { signal }).catch((error: unknown) => {
        throw isServiceError(error) ? clientError(socket, error) : error;
      });
  const clearStream = <Request, Response>(call: (request: Request, limits: CallLimits) => AsyncGenerator<Response>) =>
    async function* (request: Request, signal: AbortSignal): AsyncGenerator<Response> {
      try {
        yield* call(request, { signal });
      } catch (error) {
        throw isServiceError(error) ? clientError(socket, error) : error;
      }
    };
  return {
    status: clear(method("/keelson.v1.Node/NodeStatus", own.NodeStatusRequest, own.NodeStatusResponse, answerMs)),
    load: clearStream(stream("/keelson.v1.Images/Load", own.LoadRequest, own.Transfer, transferMs)),
    pull: clearStream(stream("/keelson.v1.Images/Pull", own.PullRequest, own.Transfer, transferMs)),
    save: clearStream(stream("/keelson.v1.Images/Save", own.SaveRequest, own.SaveResponse, transferMs)),
    tag: clear(method("/keelson.v1.Images/Tag", own.TagRequest, own.TagResponse, transferMs)),
    listImages: clear(
      method("/runtime.v1.ImageService/ListImages", v1.ListImagesRequest, v1.ListImagesResponse, answerMs),
    ),
    imageStatus: clear(
      method("/runtime.v1.ImageService/ImageStatus", v1.ImageStatusRequest, v1.ImageStatusResponse, answerMs),
    ),
    removeImage: clear(
      method("/runtime.v1.ImageService/RemoveImage", v1.RemoveImageRequest, v1.RemoveImageResponse, transferMs),
    ),
    [Symbol.dispose]: () => client.close(),
  };
}

/** The images of a transfer; `progress` is called with its bytes meanwhile. */
export async function transferred(
  answers: AsyncIterable<keelson.v1.Transfer>,
  progress: (done: number, total: number) => void = () => undefined,
): Promise<readonly keelson.v1.LoadedImage.$Properties[]> {
  let images: readonly keelson.v1.LoadedImage.$Properties[] = [];
  for await (const answer of answers) {
    images = answer.images;
    progress(Number(answer.done), Number(answer.total));
  }
  return images;
}

/** Loads an archive on this host; resolves to its images once they are in the store. */
export async function loadImage(
  socket: string,
  file: string,
  signal: AbortSignal,
  progress?: (done: number, total: number) => void,
): Promise<readonly keelson.v1.LoadedImage.$Properties[]> {
  const path = resolve(file);
  await access(path).catch((error: unknown) => {
    if (isErrno(error, "ENOENT", "ENOTDIR")) throw criErrors.pathMissing({ path }, error);
  });
  using daemon = connectDaemon(socket);
  return await transferred(daemon.load({ path }, signal), progress);
}

/** Rephrases errors raised by grpc-js itself; all others come from the daemon. */
function clientError(socket: string, error: ServiceError): Error {
  if (/\bconnect (EACCES|EPERM)\b/.test(error.details)) {
    return criErrors.socketForbidden({ socket, uid: process.geteuid?.() ?? -1 }, error);
  }
  if (error.details.startsWith("No connection established")) {
    const isAbsent = /\bconnect (ENOENT|ENOTDIR|ECONNREFUSED)\b/.test(error.details);
    const reason = isAbsent ? "nothing listens there" : "another program listens there";
    return criErrors.daemonUnreachable({ socket, reason }, error);
  }
  const [, seconds] = /^Deadline exceeded after (\d+\.\d+)s/.exec(error.details) ?? [];
  if (seconds !== undefined) return criErrors.daemonSilent({ socket, seconds: Math.round(Number(seconds)) }, error);
  // Keelson implements every call that the command line uses.
  if (error.code === status.UNIMPLEMENTED) return criErrors.daemonWithoutCall({ socket, reason: error.details }, error);
  if (error.details === "Connection dropped") return criErrors.daemonGone({ socket }, error);
  return new KeelsonError("daemonAnswer", "Internal", error.details, error);
}
