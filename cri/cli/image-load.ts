// `keelson image load`: asks the running daemon, the only writer of the image store, to import an archive.

import { access } from "node:fs/promises";
import { resolve } from "node:path";
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { KeelsonError } from "../../native/index.ts";
import { keelson } from "../api/generated/messages.js";
import { criErrors } from "../errors.ts";

/** Reading and unpacking a large archive takes its time; past this the daemon is taken for stuck. */
const deadlineMilliseconds = 10 * 60_000;

/** The images loaded, as the daemon names them. Rejects with the daemon's own sentence. */
export async function loadImage(
  socket: string,
  file: string,
  signal: AbortSignal,
): Promise<readonly keelson.v1.LoadedImage.$Properties[]> {
  const path = resolve(file);
  await access(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") throw criErrors.pathMissing({ path }, error);
  });
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  try {
    const response = await new Promise<keelson.v1.LoadResponse.$Properties>((resolveCall, reject) => {
      const call = client.makeUnaryRequest(
        "/keelson.v1.Images/Load",
        (request: keelson.v1.LoadRequest.$Properties) => Buffer.from(keelson.v1.LoadRequest.encode(request).finish()),
        (bytes) => keelson.v1.LoadResponse.decode(bytes),
        { path },
        { deadline: Date.now() + deadlineMilliseconds },
        (error, answer) => (error || !answer ? reject(clientError(socket, error)) : resolveCall(answer)),
      );
      signal.addEventListener("abort", () => call.cancel(), { once: true });
    });
    return response.images ?? [];
  } finally {
    client.close();
  }
}

function clientError(socket: string, error: ServiceError | null): Error {
  if (error === null) return criErrors.daemonUnreachable({ socket, reason: "it answered nothing" });
  if (/\bconnect (EACCES|EPERM)\b/.test(error.details)) {
    return criErrors.socketForbidden({ socket, uid: process.geteuid?.() ?? -1 }, error);
  }
  if (error.details.startsWith("No connection established")) {
    return criErrors.daemonUnreachable({ socket, reason: "nobody listens there" }, error);
  }
  return new KeelsonError("daemonAnswer", "Internal", error.details, error);
}
