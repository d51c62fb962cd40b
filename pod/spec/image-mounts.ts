// Image volumes: which images a container mounts, and where the monitor must mount them.
// Sources: CRI v1 Mount (image, image_sub_path); Kubernetes KEP-4639; native/PROTOCOL.md (rootfs.json).

import { join, posix } from "node:path";
import type { Image } from "../../image/types.ts";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, ImageSpec, Mount } from "../types.ts";
import type { ReadAccounts } from "./accounts.ts";
import type { OciMount } from "./oci.ts";

export interface ImageVolume {
  readonly mount: Mount;
  /** The mount's `image`. */
  readonly spec: ImageSpec;
  readonly image: Image;
  /** In the bundle; only the monitor mounts there. */
  readonly mountpoint: string;
}

/** Throws NotFound for an image that is not on this node. */
export function imageVolumes(
  config: ContainerConfig,
  find: (reference: string) => Image | undefined,
  bundle: string,
): ImageVolume[] {
  const wanted = config.mounts.flatMap((mount) => (mount.image === undefined ? [] : [{ mount, spec: mount.image }]));
  return wanted.map(({ mount, spec }, index) => {
    const image = find(spec.image);
    if (image === undefined) throw podErrors.imageVolumeMissing({ image: spec.image, target: mount.containerPath });
    return { mount, spec, image, mountpoint: join(bundle, "images", String(index)) };
  });
}

/** Throws FailedPrecondition for a subpath that is not in its image. */
export async function checkSubPaths(
  volumes: readonly ImageVolume[],
  read: (image: Image) => ReadAccounts,
): Promise<void> {
  for (const { mount, spec, image } of volumes) {
    if (mount.imageSubPath === "") continue;
    const [found] = await read(image)([posix.join("/", mount.imageSubPath)], 0);
    if (found === undefined || found.kind === "missing") {
      const { imageSubPath: path, containerPath: target } = mount;
      throw podErrors.imageSubPathMissing({ path, image: spec.image, target });
    }
  }
}

/** Read-only; programs can be executed unless the request says noexec (required by critest since v1.37). */
export function imageMount({ mount, mountpoint }: ImageVolume): OciMount {
  return {
    destination: posix.resolve("/", mount.containerPath),
    type: "bind",
    source: mountpoint,
    options: ["bind", "rprivate", "ro", ...new Set(["nosuid", "nodev", ...mount.mountOptions])],
  };
}

/** The config with CRI's image_ref set for each image mount, to the value that PullImage returned (KEP-5365). */
export function withImageRefs(config: ContainerConfig, volumes: readonly ImageVolume[]): ContainerConfig {
  const resolved = new Map(
    volumes.map(({ mount, spec, image }) => [mount, { ...mount, image: { ...spec, imageRef: image.id } }]),
  );
  return { ...config, mounts: config.mounts.map((mount) => resolved.get(mount) ?? mount) };
}

/** The entry of rootfs.json. */
export function imageView({ mount, image, mountpoint }: ImageVolume): object {
  return { mountpoint, lower: image.layers, sub_path: mount.imageSubPath };
}
