// A pod's volumes on the host: created before its containers, below the pod's directory, which is removed with the pod.
//
// Files of ConfigMaps and Secrets are written once, and mounted read-only, as a kubelet does.

import { chmod, chown, mkdir, stat, writeFile as write } from "node:fs/promises";
import { dirname, join } from "node:path";
import { firstLine, runProgram } from "../../native/index.ts";
import type { runtime } from "../api/generated/messages.js";
import { runtime as messages } from "../api/generated/messages.js";
import { playErrors } from "./errors.ts";
import type { Data, Manifest } from "./manifest.ts";
import { quantity } from "./resources.ts";
import type { Container, PodSpec } from "./supported.ts";

type Volume = NonNullable<PodSpec["volumes"]>[number];
type KeyFiles = NonNullable<Volume["configMap"]>;

/** The location of a volume, whether it is read-only, and whether it was created for this pod only. */
export type PreparedVolume =
  | { readonly kind: "host"; readonly path: string; readonly readOnly: boolean; readonly isPodsOwn: boolean }
  | { readonly kind: "image"; readonly reference: string; readonly pullPolicy: string | undefined };

export interface VolumeOptions {
  readonly directory: string;
  readonly namespace: string;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
  readonly signal: AbortSignal;
}

/** The directory of the volumes that are removed with the pod. */
function volumesDirectory(podDirectory: string): string {
  return join(podDirectory, "volumes");
}

/** Adds missing volumes to `prepared`, in order; rejects on the first failure, and can be retried. */
export async function prepareVolumes(
  spec: PodSpec,
  options: VolumeOptions,
  prepared: Map<string, PreparedVolume>,
): Promise<void> {
  const group = spec.securityContext?.fsGroup;
  for (const volume of spec.volumes ?? [])
    if (!prepared.has(volume.name)) prepared.set(volume.name, await prepare(volume, group, options));
}

async function prepare(volume: Volume, group: number | undefined, options: VolumeOptions): Promise<PreparedVolume> {
  const { name, configMap, secret, hostPath, image } = volume;
  if (image) return { kind: "image", reference: image.reference ?? "", pullPolicy: image.pullPolicy };
  if (hostPath) {
    await prepareHostPath(name, hostPath.path, hostPath.type ?? "");
    return { kind: "host", path: hostPath.path, readOnly: false, isPodsOwn: false };
  }
  const path = join(volumesDirectory(options.directory), name);
  await mkdir(path, { recursive: true });
  const data = (kind: "configMaps" | "secrets", key: string | undefined) =>
    options.manifest[kind].get(`${options.namespace}/${key}`)?.files;
  if (configMap) await writeKeys(path, data("configMaps", configMap.name), configMap, group);
  else if (secret) await writeKeys(path, data("secrets", secret.secretName), secret, group);
  else await prepareEmptyDir(volume, path, group, options.signal);
  return { kind: "host", path, readOnly: Boolean(configMap ?? secret), isPodsOwn: true };
}

async function prepareEmptyDir(
  { name, emptyDir }: Volume,
  path: string,
  group: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (emptyDir?.medium === "Memory") {
    const size = emptyDir.sizeLimit === undefined ? [] : ["-o", `size=${Math.ceil(quantity(emptyDir.sizeLimit) ?? 0)}`];
    const { code, stderr } = await runProgram("mount", ["-t", "tmpfs", ...size, "keelson-play", path], signal, {
      stdout: { limit: 4096 },
    });
    if (code !== 0) throw playErrors.mountFailed({ volume: name, reason: firstLine(stderr) });
  }
  // Every user of the pod may write, regardless of the umask.
  await chmod(path, 0o777);
  if (group === undefined) return;
  await chown(path, 0, group);
  await chmod(path, 0o2777);
}

async function writeKeys(
  path: string,
  data: Data | undefined,
  { items = [], defaultMode = 0o644 }: KeyFiles,
  group: number | undefined,
): Promise<void> {
  await chmod(path, 0o755);
  const all = () => [...(data?.keys() ?? [])].map((key) => ({ key, path: key, mode: undefined }));
  const files = items.length > 0 ? items : all();
  for (const { key, path: name, mode = defaultMode } of files) {
    const content = data?.get(key);
    if (content === undefined) continue;
    const file = join(path, name);
    await mkdir(dirname(file), { recursive: true });
    await write(file, content, { mode: 0o600, flag: "w" });
    if (group !== undefined) await chown(file, 0, group);
    await chmod(file, group === undefined ? mode : mode | 0o440);
  }
}

/** Source: the reference of hostPath types. Without a type nothing is checked; the runtime rejects a missing path. */
async function prepareHostPath(volume: string, path: string, type: string): Promise<void> {
  if (type === "") return;
  const found = await stat(path).catch(() => undefined);
  if (found === undefined && type === "DirectoryOrCreate") {
    await mkdir(path, { recursive: true, mode: 0o755 });
    return;
  }
  if (found === undefined && type === "FileOrCreate") {
    await write(path, "", { mode: 0o644, flag: "a" });
    return;
  }
  const fits = {
    DirectoryOrCreate: found?.isDirectory(),
    Directory: found?.isDirectory(),
    FileOrCreate: found?.isFile(),
    File: found?.isFile(),
    Socket: found?.isSocket(),
    CharDevice: found?.isCharacterDevice(),
    BlockDevice: found?.isBlockDevice(),
  }[type];
  if (fits) return;
  const problem = found === undefined ? "it does not exist" : `it is not a ${type.replace("OrCreate", "")}`;
  throw playErrors.hostPathUnfit({ volume, path, problem });
}

const propagations: ReadonlyMap<string | undefined, runtime.v1.MountPropagation> = new Map([
  ["HostToContainer", messages.v1.MountPropagation.PROPAGATION_HOST_TO_CONTAINER],
  ["Bidirectional", messages.v1.MountPropagation.PROPAGATION_BIDIRECTIONAL],
]);

/** `imageOf` returns the id of an image in the store. */
export function mountsOf(
  { volumeMounts = [] }: Container,
  volumes: ReadonlyMap<string, PreparedVolume>,
  imageOf: (reference: string) => string,
): runtime.v1.Mount.$Properties[] {
  return volumeMounts.flatMap((mount): runtime.v1.Mount.$Properties[] => {
    const volume = volumes.get(mount.name);
    if (volume === undefined) return [];
    // Kubernetes takes a relative path as relative to the root.
    const containerPath = mount.mountPath.startsWith("/") ? mount.mountPath : `/${mount.mountPath}`;
    if (volume.kind === "image") {
      const image = { image: imageOf(volume.reference), userSpecifiedImage: volume.reference };
      return [{ containerPath, readonly: true, image, imageSubPath: mount.subPath ?? "" }];
    }
    return [
      {
        containerPath,
        hostPath: mount.subPath ? join(volume.path, mount.subPath) : volume.path,
        readonly: volume.readOnly || (mount.readOnly ?? false),
        recursiveReadOnly: mount.recursiveReadOnly === "Enabled",
        selinuxRelabel: volume.isPodsOwn,
        propagation: propagations.get(mount.mountPropagation) ?? messages.v1.MountPropagation.PROPAGATION_PRIVATE,
      },
    ];
  });
}
