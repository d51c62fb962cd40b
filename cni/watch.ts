// Reports changes in any of several directories, including directories that do not exist yet.
//
// For a missing directory the nearest existing ancestor is watched. inotify has no event for
// "the path now leads elsewhere", so after each event the watches are checked against what is
// at the path now.

import { type FSWatcher, statSync, watch } from "node:fs";
import { dirname } from "node:path";

/** Milliseconds without events to wait for after an event: files are written in several steps. */
const quietMs = 50;
/** Longest delay after the first event, in milliseconds, if events keep arriving. */
const latestMs = 1000;
/** Milliseconds until a retry if the kernel refuses a watch (fs.inotify.max_user_watches). */
const retryMs = 5000;

/**
 * Calls `changed` after changes in the directories, or when one is created or removed, until the returned
 * function is called. There may be calls without a change, but no change is missed.
 */
export function watchDirectories(directories: readonly string[], changed: () => void): () => void {
  let quiet: NodeJS.Timeout | undefined;
  let firstEventAt: number | undefined;

  const fire = (): void => {
    firstEventAt = undefined;
    changed();
  };
  const noticed = (): void => {
    const now = performance.now();
    firstEventAt ??= now;
    clearTimeout(quiet);
    quiet = setTimeout(fire, Math.max(0, Math.min(quietMs, firstEventAt + latestMs - now)));
  };
  const watches = directories.map((directory) => watchOne(directory, noticed));
  return () => {
    clearTimeout(quiet);
    for (const stop of watches) stop();
  };
}

function watchOne(directory: string, noticed: () => void): () => void {
  let watcher: FSWatcher | undefined;
  let watched: Place | undefined;
  let retry: NodeJS.Timeout | undefined;

  const lose = (): void => {
    watcher?.close();
    watcher = undefined;
    watched = undefined;
    clearTimeout(retry);
    retry = setTimeout(onEvent, retryMs);
    retry.unref();
  };
  const onEvent = (): void => {
    aim();
    noticed();
  };
  // A directory may appear between the lookup and the watch: look again until both agree.
  const aim = (): void => {
    for (let place = nearest(directory); !samePlace(place, watched); place = nearest(directory)) {
      watcher?.close();
      watched = place;
      try {
        watcher = watch(place.path, { persistent: false }, onEvent);
        watcher.on("error", lose);
      } catch {
        lose();
        return;
      }
    }
  };
  aim();
  return () => {
    clearTimeout(retry);
    watcher?.close();
  };
}

/** An existing directory, distinguishable from another one at the same path later. */
interface Place {
  readonly path: string;
  readonly device: bigint;
  readonly inode: bigint;
}

function nearest(directory: string): Place {
  const facts = statDirectory(directory);
  if (facts?.isDirectory() || directory === "/")
    return { path: directory, device: facts?.dev ?? 0n, inode: facts?.ino ?? 0n };
  return nearest(dirname(directory));
}

/** Also undefined for a path that cannot be examined, such as a link to itself. */
function statDirectory(path: string) {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function samePlace(left: Place, right: Place | undefined): boolean {
  return left.path === right?.path && left.device === right.device && left.inode === right.inode;
}
