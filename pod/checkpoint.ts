// CheckpointContainer: dumps a running container to a tar archive; the container keeps running.
//
// The archive has the format that CRI-O, containerd and podman write and checkpointctl reads: CRIU's images in
// checkpoint/, config.dump and spec.dump, and the changes to the root file system in rootfs-diff.tar and deleted.files.
// The container is frozen while memory and root are read, so that they are consistent; the archive is written after.
// A stop takes precedence: it aborts the checkpoint and does not wait for the archive, whose file system may not
// answer. If the daemon dies during a checkpoint, its next start thaws the container.

import { randomUUID } from "node:crypto";
import { link, mkdir, open, readdir, readFile, readlink, rm, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  flushDirectory,
  isDoneWithin,
  isErrno,
  KeelsonError,
  messageOf,
  orAborted,
  runProgram,
  writeFile,
} from "../native/index.ts";
import { dumpArguments, findCriu, lastError, runCriu, standardStreams } from "./checkpoint/criu.ts";
import { type Freezer, freezerOf } from "./checkpoint/freezer.ts";
import type { Container } from "./container.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";

const defaultTimeoutMs = 300_000;
const removals = 20;
/** Suffix of the archive being written, and of the symlink to it in the checkpoint directory. */
const noteEnding = ".partial";

export interface CheckpointOrder {
  /** Absolute; must not exist, but its directory must. */
  readonly location: string;
  /** 0: five minutes. */
  readonly timeoutMs: number;
}

interface Ends {
  /** Aborted: the checkpoint ends and the container keeps running. */
  readonly signal: AbortSignal;
  /** Aborted: the checkpoint ends at once, because the container is about to be killed. */
  readonly kill: AbortSignal;
  /** Called when the container is thawed. */
  readonly onThawed: () => void;
}

/**
 * One at a time per container. Rejects when the caller gives up, at the deadline, and when the container is stopped.
 */
export async function checkpointContainer(
  env: Environment,
  container: Container,
  order: CheckpointOrder,
  caller: AbortSignal,
): Promise<void> {
  const { id } = container;
  await requireFree(env, order.location);
  const { phase } = container;
  if (phase.state !== "running")
    throw podErrors.containerState({ id, state: phase.state, step: "checkpointing it", wanted: "running" });
  if (container.stops > 0) throw podErrors.checkpointStopped({ id });
  if (container.config.tty) throw podErrors.checkpointTerminal({ id });
  if (container.checkpoint !== undefined) throw podErrors.checkpointUnderway({ id });

  const timeoutMs = order.timeoutMs === 0 ? defaultTimeoutMs : order.timeoutMs;
  const [stop, kill] = [new AbortController(), new AbortController()];
  const late = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([caller, stop.signal, late]);
  const thawed = Promise.withResolvers<void>();
  const ends: Ends = { signal, kill: kill.signal, onThawed: thawed.resolve };
  const work = makeCheckpoint(env, container, phase.pid, order.location, ends).finally(() => {
    thawed.resolve();
    container.checkpoint = undefined;
  });
  container.checkpoint = {
    breakOff: async (urgently) => {
      stop.abort();
      if (urgently) kill.abort();
      await thawed.promise;
    },
    ended: work.catch(() => undefined),
  };
  await undoneInTime(work, signal).catch((error: unknown) => {
    if (stop.signal.aborted) throw podErrors.checkpointStopped({ id });
    if (late.aborted) throw podErrors.checkpointLate({ id, seconds: timeoutMs / 1000 });
    if (caller.aborted) throw podErrors.checkpointGivenUp({ id });
    if (error instanceof KeelsonError) throw error;
    throw podErrors.checkpointFailed({ id, reason: messageOf(error) }, error);
  });
}

/** Settles as the work does, but at most `limits.undo` after the signal aborts. */
async function undoneInTime(work: Promise<void>, signal: AbortSignal): Promise<void> {
  try {
    await orAborted(work, signal);
  } catch (error) {
    if (!signal.aborted || !(await isDoneWithin(work, limits.undo))) throw error;
  }
}

/**
 * Aborts the running checkpoints when the daemon exits. A criu that does not end by itself in time is killed: no
 * container may stay frozen while no daemon runs.
 */
export async function breakCheckpointsOff(containers: readonly Container[]): Promise<void> {
  const running = containers.flatMap(({ checkpoint }) => checkpoint ?? []);
  const brokenOff = Promise.all(running.map(async (checkpoint) => await checkpoint.breakOff(false)));
  if (!(await isDoneWithin(brokenOff, limits.breakOff)))
    for (const checkpoint of running) void checkpoint.breakOff(true);
  await brokenOff;
  // If an archive's file system does not answer, its note lets the next start remove it.
  await isDoneWithin(Promise.all(running.map(({ ended }) => ended)), limits.breakOff);
}

/** Cleans up after the unfinished checkpoints of a previous daemon: frozen containers and partial files. */
export async function recoverCheckpoints(env: Environment, containers: Iterable<Container>): Promise<void> {
  const byId = new Map([...containers].map((container) => [String(container.id), container]));
  const names = await readdir(env.checkpointDirectory).catch(() => []);
  const begun = names.flatMap((name) => byId.get(name) ?? []);
  // Runs before any new checkpoint request can have frozen a container.
  await Promise.all(begun.map(async ({ cgroup }) => await freezerOf(env.cgroups, cgroup).thaw()));
  for (const name of names) {
    const path = join(env.checkpointDirectory, name);
    if (name.endsWith(noteEnding)) {
      // Not awaited, because its file system may not answer.
      removePartial(path).catch((error: unknown) =>
        env.log("warn", `removing a partial checkpoint archive failed: ${messageOf(error)}`),
      );
    } else if (byId.get(name)?.checkpoint === undefined) {
      await env.host.removeTree(path);
    }
  }
}

/** Runs rm(1): if the file system does not answer, only that process hangs, and the daemon can still exit. */
async function removePartial(note: string): Promise<void> {
  const partial = await readlink(note).catch((error: unknown) => {
    if (!isErrno(error, "ENOENT")) throw error;
  });
  if (partial === undefined) return;
  const late = AbortSignal.timeout(limits.undo);
  const { code, stderr } = await runProgram("rm", ["--force", "--", partial], late, { stdout: { limit: 0 } });
  if (code !== 0) throw new Error(stderr.trim());
  await rm(note);
}

async function requireFree(env: Environment, location: string): Promise<void> {
  await env.hostPaths.requireAnswer(location);
  const directory = await stat(dirname(location)).catch(() => undefined);
  if (directory?.isDirectory() !== true) throw podErrors.checkpointNowhere({ location });
  if ((await stat(location).catch(() => undefined)) !== undefined) throw podErrors.checkpointTaken({ location });
}

async function makeCheckpoint(
  env: Environment,
  container: Container,
  pid: number,
  location: string,
  { signal, kill, onThawed }: Ends,
): Promise<void> {
  const criu = await findCriu(signal);
  if ("reason" in criu) throw podErrors.checkpointUnable({ id: container.id, reason: criu.reason });
  const scratch = join(env.checkpointDirectory, container.id);
  // Unique names, because the files of an earlier checkpoint may still be waiting for removal.
  const partial = join(dirname(location), `.${randomUUID()}${noteEnding}`);
  const note = join(env.checkpointDirectory, `${randomUUID()}${noteEnding}`);
  await env.host.removeTree(scratch);
  try {
    await mkdir(join(scratch, "checkpoint"), { recursive: true, mode: 0o700 });
    await symlink(partial, note);
    await describe(env, container, scratch);
    const freezer = freezerOf(env.cgroups, container.cgroup);
    try {
      await freezer.freeze(signal);
      await dump(env, container, pid, freezer, scratch, { signal, kill });
      await saveChanges(env, container, scratch, signal);
    } finally {
      await freezer.thaw();
      onThawed();
    }
    await archive(scratch, partial, signal);
    // Unlike rename, link does not replace a file that was created there meanwhile.
    await link(partial, location).catch((error: unknown) => {
      throw isErrno(error, "EEXIST") ? podErrors.checkpointTaken({ location }, error) : error;
    });
    await flushDirectory(dirname(location));
  } finally {
    // First, because the next step may hang: the caller chose the location's file system.
    await env.host.removeTree(scratch);
    await removePartial(note);
  }
}

/** config.dump has the members of checkpointctl's metadata; spec.dump is the OCI configuration. */
async function describe(
  env: Environment,
  { id, config, imageId, shownImage, createdAt, sandbox, bundle }: Container,
  scratch: string,
) {
  const description = {
    id,
    name: config.metadata.name,
    rootfsImage: shownImage.name,
    rootfsImageRef: imageId,
    rootfsImageName: shownImage.name,
    runtime: sandbox.handler.name,
    createdTime: rfc3339(createdAt),
    checkpointedTime: rfc3339(env.clock()),
  };
  await writeFile(join(scratch, "config.dump"), JSON.stringify(description), { mode: 0o600 });
  await writeFile(join(scratch, "spec.dump"), await readFile(join(bundle, "config.json")), { mode: 0o600 });
}

async function dump(
  env: Environment,
  container: Container,
  pid: number,
  freezer: Freezer,
  scratch: string,
  { signal, kill }: Pick<Ends, "signal" | "kill">,
): Promise<void> {
  // A frozen process cannot exit, so from here on the pid cannot be reused.
  const cgroups = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  if (!cgroups.includes(container.cgroup)) throw new Error("it has just exited");
  const imageDirectory = join(scratch, "checkpoint");
  const args = await dumpArguments({
    pid,
    imageDirectory,
    workDirectory: scratch,
    freezer: freezer.directory,
    binds: await bindDestinations(container.bundle),
  });
  const streams = await standardStreams(pid);
  // A killed criu may leave its parasite code in the processes; a failing criu removes it. So make criu fail by
  // removing its image directory. A file that it creates meanwhile makes the removal fail, hence the retries.
  const breakOff = async () => {
    for (let left = removals; left > 0; left -= 1) {
      const removed = await env.host.removeTree(imageDirectory).then(
        () => true,
        () => false,
      );
      if (removed) return;
    }
  };
  const { code, stdout, stderr } = await runCriu(args, signal, kill, breakOff);
  if (code !== 0) {
    const log = await readFile(join(scratch, "dump.log"), "utf8").catch(() => stdout + stderr);
    throw new Error(`criu dump failed: ${lastError(log)}`);
  }
  await writeFile(join(imageDirectory, "descriptors.json"), JSON.stringify(streams), { mode: 0o600 });
}

async function bindDestinations(bundle: string): Promise<ReadonlySet<string>> {
  const spec: { readonly mounts?: readonly { readonly type?: string; readonly destination: string }[] } = JSON.parse(
    await readFile(join(bundle, "config.json"), "utf8"),
  );
  return new Set((spec.mounts ?? []).filter(({ type }) => type === "bind").map(({ destination }) => destination));
}

/** Saves new and changed files as a tar archive and removed files as a list, while the container is frozen. */
async function saveChanges(env: Environment, { bundle }: Container, scratch: string, signal: AbortSignal) {
  const rootfs: { readonly upper: string; readonly lower: readonly string[] } = JSON.parse(
    await readFile(join(bundle, "rootfs.json"), "utf8"),
  );
  // After an abort the walk continues in its thread, but the container does not wait for it.
  const removed = await orAborted(env.host.removedPaths(rootfs.upper, rootfs.lower), signal);
  const deleted = JSON.stringify(removed.map((path) => path.toString()));
  await writeFile(join(scratch, "deleted.files"), deleted, { mode: 0o600 });
  const excluded = join(scratch, "whiteouts");
  const whiteouts = removed.flatMap((path) => [Buffer.from("./"), path, Buffer.from("\0")]);
  await writeFile(excluded, Buffer.concat(whiteouts), { mode: 0o600 });
  const options = ["--null", "--no-wildcards", "--anchored", `--exclude-from=${excluded}`];
  // Member names without "./", as other tools write them; targets of symlinks stay unchanged.
  const names = "--transform=flags=rh;s,^\\./,,";
  // Exclude overlayfs' own attributes and those that mark a directory's layer (native/common/unnamed.h).
  const ours = ["overlay", "keelson"].map((owner) => `--xattrs-exclude=trusted.${owner}.*`);
  const attributes = ["--numeric-owner", "--xattrs", "--xattrs-include=*", ...ours];
  await pack(join(scratch, "rootfs-diff.tar"), rootfs.upper, [...options, names, ...attributes, "."], signal);
  await rm(excluded);
}

async function archive(scratch: string, file: string, signal: AbortSignal): Promise<void> {
  await pack(file, scratch, await readdir(scratch), signal);
  await using written = await open(file, "r");
  await written.sync();
}

/** tar(1) into a file of mode 0600. */
async function pack(file: string, directory: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  await rm(file, { force: true });
  await using target = await open(file, "wx", 0o600);
  const words = ["--create", "--file=-", "--sparse", `--directory=${directory}`, ...args];
  const { code, stderr } = await runProgram("tar", words, signal, { stdout: { fd: target.fd } });
  if (code !== 0) throw new Error(`tar could not write ${file}: ${stderr.trim()}`);
}

function rfc3339(nanoseconds: bigint): string {
  return new Date(Number(nanoseconds / 1_000_000n)).toISOString();
}
