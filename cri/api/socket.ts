// The Unix socket in the file system: its permissions, and how it replaces a stale one.

import { chmod, lstat, mkdir, mkdtemp, rename, rm, rmdir } from "node:fs/promises";
import { connect } from "node:net";
import { basename, dirname, join } from "node:path";
import { firstLine, isErrno, KeelsonError } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

/** A listening socket passed by the process that started this one, which keeps it open. */
export interface Inherited {
  readonly descriptor: number;
  readonly path: string;
}

/**
 * Listens on `path` by calling `listen` with a temporary path in a directory that only root can enter. The socket gets
 * mode 0660 there and is renamed into place, so that it is never visible with other permissions, and a stale socket is
 * replaced atomically. Rejects with socketLive if a server answers on `path`, and with socketNotSocket if `path` is not
 * a socket.
 */
export async function placeSocket(path: string, listen: (temporaryPath: string) => Promise<void>): Promise<void> {
  const directory = dirname(path);
  try {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    await refuseUnlessStale(path);
    const hidden = await mkdtemp(join(directory, ".s"));
    try {
      const temporary = join(hidden, basename(path));
      await listen(temporary);
      await chmod(temporary, 0o660);
      await rename(temporary, path);
    } finally {
      await rmdir(hidden).catch(() => rm(hidden, { recursive: true, force: true }));
    }
  } catch (error) {
    if (error instanceof KeelsonError) throw error;
    throw criErrors.socketFailed({ path, reason: firstLine(error) }, error);
  }
}

async function refuseUnlessStale(path: string): Promise<void> {
  const stat = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw criErrors.socketNotSocket({ path });
  if (await answers(path)) throw criErrors.socketLive({ path });
}

/** Only a refused connection means that nothing listens. For a hung server the kernel returns EAGAIN (connect(2)). */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const settle = (alive: boolean) => {
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", (error) => settle(!isErrno(error, "ECONNREFUSED", "ENOENT")));
  });
}
