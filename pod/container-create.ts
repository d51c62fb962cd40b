// CreateContainer: turns a request into a bundle on disk and a record. Starts no process.

import { dirname, join, posix } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Image } from "../image/types.ts";
import { changeFiles, findsHome, settled } from "../native/index.ts";
import { bundlePath, Container, targetPidNamespace } from "./container.ts";
import { createdAfter } from "./created-at.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import type { RuntimeHandler } from "./handlers.ts";
import { newContainerId } from "./ids.ts";
import { type Sandbox, samePod } from "./sandbox.ts";
import { containerRecord } from "./sandbox-record.ts";
import { shownImage } from "./shown-image.ts";
import { signalNumber } from "./signals.ts";
import { resolveAccount } from "./spec/accounts.ts";
import { buildSpec } from "./spec/build.ts";
import { encodeSpec } from "./spec/encode.ts";
import { checkSubPaths, imageView, imageVolumes, withImageRefs } from "./spec/image-mounts.ts";
import { containerLabels } from "./spec/selinux.ts";
import { countsSwap, withoutSwap } from "./spec/swap.ts";
import type { ContainerConfig } from "./types.ts";
import { UndoStack } from "./undo.ts";
import { hostRoot, refuseUnmapped, userMappings } from "./user-namespace.ts";

/** Creates the container, or rolls everything back and rejects. `sandboxes` are all sandboxes of this node. */
export async function createContainer(
  env: Environment,
  sandbox: Sandbox,
  wanted: ContainerConfig,
  sandboxes: Iterable<Sandbox>,
): Promise<Container> {
  if (!sandbox.ready) throw podErrors.sandboxNotReady({ id: sandbox.id, step: "creating a container" });
  const config = limited(env, sandbox, wanted);
  const image = env.images.find(config.image.image);
  if (image === undefined) throw podErrors.imageMissing({ image: config.image.image });
  refuseBeyondSandbox(sandbox, config);
  refuseBeyondHandler(sandbox.handler, config);
  refuseMissingTarget(sandbox, config);
  const labels = await containerLabels(env.selinux, sandbox, config);

  const id = newContainerId();
  const bundle = bundlePath(sandbox, id);
  const volumes = imageVolumes(config, (reference) => env.images.find(reference), bundle);
  const readImage = (of: Image) => async (paths: readonly string[], limit: number) =>
    await env.host.readFromLayers(of.layers, paths, limit);
  await checkSubPaths(volumes, readImage);
  const mappings = userMappings(sandbox.config.security.namespaces);
  const undo = new UndoStack(limits.undo);
  try {
    undo.push("remove the writable layer", async () => await env.images.removeSnapshot(id));
    const [snapshot, account] = await settled([
      env.images.prepareSnapshot(id, image.id, {
        root: hostRoot(mappings),
        mounted: volumes.map((volume) => volume.image.id),
      }),
      resolveAccount(config.security, image.config.user, config.image.image, env.accounts.of(image)),
    ]);
    if (mappings !== undefined) refuseUnmapped(mappings, account);
    const { uid, gid, supplementalGroups } = account;
    const spec = await buildSpec(env, sandbox.setup(), {
      id,
      config,
      image,
      account,
      imageVolumes: volumes,
      labels,
      relabel: env.relabelling.for(labels),
      monitorFindsHome: () => findsHome(sandbox.podDirectory),
      targetPidNamespace: targetPidNamespace(bundle),
    });
    const { seccomp } = spec.linux;
    const seccompFilter = seccomp === undefined ? undefined : await env.filters.path(seccomp);

    undo.push("remove the bundle", async () => await env.host.removeTree(bundle));
    const rootfs = { ...snapshot, images: volumes.map(imageView), directories: declaredVolumes(image, config) };
    const mountpoints = volumes.map(({ mountpoint }) => mountpoint);
    await writeBundle(bundle, encodeSpec(spec), rootfs, mountpoints);
    const container = new Container(
      {
        id,
        config: withImageRefs(config, volumes),
        createdAt: createdAfter(namesakes(config, samePod(sandbox.config, sandboxes)), env.clock()),
        imageId: image.id,
        shownImage: shownImage(config.image, image),
        user: { uid, gid, supplementalGroups },
        stopSignal: stopSignal(config, image),
        ...(seccompFilter === undefined ? {} : { seccompFilter }),
      },
      sandbox,
    );

    // Last, because a failed save of a new record leaves none: it needs no undo.
    await env.records.save(containerRecord(container));
    return container;
  } catch (error) {
    const leftovers = await undo.unwind();
    for (const { step, reason } of leftovers) env.log("error", `container ${id}: undo failed: ${step}: ${reason}`);
    throw error;
  }
}

function limited({ cgroups }: Environment, { cgroup }: Sandbox, config: ContainerConfig): ContainerConfig {
  if (config.resources === undefined || !countsSwap(cgroups, cgroup)) return config;
  return { ...config, resources: withoutSwap(config.resources) };
}

function refuseBeyondSandbox({ id, config: { security } }: Sandbox, config: ContainerConfig): void {
  const { namespaces } = config.security;
  if (namespaces.user !== undefined && !isDeepStrictEqual(userMappings(namespaces), userMappings(security.namespaces)))
    throw podErrors.otherUsers({ container: config.metadata.name, id });
}

function refuseBeyondHandler({ name, features }: RuntimeHandler, config: ContainerConfig): void {
  const recursive = config.mounts.find((mount) => mount.recursiveReadOnly);
  if (recursive !== undefined && !features.recursiveReadOnlyMounts)
    throw podErrors.recursiveReadOnlyUnsupported({ target: recursive.containerPath, handler: name });
}

/** The target's PID is only looked up at the start, because it may change until then. */
function refuseMissingTarget(sandbox: Sandbox, config: ContainerConfig): void {
  const { pid, targetId } = config.security.namespaces;
  if (pid !== "target") return;
  const target = sandbox.containers.get(targetId);
  if (target === undefined)
    throw podErrors.namespaceTarget({ target: targetId, reason: "this pod has no such container" });
  if (target.phase.state !== "running")
    throw podErrors.namespaceTarget({ target: targetId, reason: "it is not running" });
}

/** The containers with the same name in a pod's sandboxes: earlier attempts. */
function namesakes({ metadata }: ContainerConfig, sandboxes: readonly Sandbox[]): Container[] {
  const all = sandboxes.flatMap(({ containers }) => [...containers.values()]);
  return all.filter(({ config }) => config.metadata.name === metadata.name);
}

/** From the request, else from the image, else SIGTERM; signal names unknown to this host are skipped. */
function stopSignal(config: ContainerConfig, image: Image): string {
  return (
    [config.stopSignal ?? "", image.config.stopSignal].find((name) => signalNumber(name) !== undefined) ?? "SIGTERM"
  );
}

/**
 * The image's VOLUMEs; ".." in their paths cannot leave the root. A volume that the request mounts over is left out,
 * because that mount need not be a directory.
 */
function declaredVolumes(image: Image, { mounts }: ContainerConfig): string[] {
  const taken = new Set(["/", ...mounts.map(({ containerPath }) => posix.resolve("/", containerPath))]);
  return image.config.volumes.map((path) => posix.resolve("/", path)).filter((path) => !taken.has(path));
}

async function writeBundle(
  bundle: string,
  config: Buffer,
  rootfs: object,
  mountpoints: readonly string[],
): Promise<void> {
  const path = (name: string) => join(bundle, name);
  const directories = [bundle, path("rootfs"), ...(mountpoints.length === 0 ? [] : [path("images"), ...mountpoints])];
  await changeFiles([
    // Missing in a pod of an older keelson that has no container yet.
    { kind: "directory", path: dirname(bundle), mode: 0o700, mayExist: true },
    ...directories.map((made) => ({ kind: "directory", path: made, mode: 0o700 }) as const),
    { kind: "file", path: path("config.json"), content: config, mode: 0o600 },
    { kind: "file", path: path("rootfs.json"), content: JSON.stringify(rootfs), mode: 0o600 },
  ]);
}
