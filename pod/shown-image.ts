// The image name and reference in a container's status. The kubelet creates containers by image id but shows users the
// names from the status, so these are the name from the pod's spec and the image's digest in its registry.

import { formatReference, nameOf, parseReference } from "../image/reference.ts";
import type { Image } from "../image/types.ts";
import type { ImageSpec } from "./types.ts";

export interface ShownImage {
  /** For CRI's `image`. */
  readonly name: string;
  /** For CRI's `image_ref`: `repository@sha256:…`, or the image's id if it has no repo digest. */
  readonly reference: string;
}

export function shownImage(
  { image, userSpecifiedImage }: Pick<ImageSpec, "image" | "userSpecifiedImage">,
  { id, tags, repoDigests }: Pick<Image, "id" | "tags" | "repoDigests">,
): ShownImage {
  const asked = parsed(userSpecifiedImage);
  const given = userSpecifiedImage || image;
  const name = asked ? formatReference(asked) : given;
  const isId = id.startsWith(`sha256:${given.replace(/^sha256:/, "")}`) && !tags.includes(name);
  const sameRepository = asked && repoDigests.find((digest) => digest.startsWith(`${nameOf(asked)}@`));
  return {
    name: isId ? (tags[0] ?? repoDigests[0] ?? id) : name,
    reference: sameRepository ?? repoDigests[0] ?? id,
  };
}

/** Undefined for an empty text, and for one that is not an image name, such as an id. */
function parsed(text: string): ReturnType<typeof parseReference> | undefined {
  try {
    return parseReference(text);
  } catch {
    return undefined;
  }
}
