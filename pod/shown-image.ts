// What a container's status calls its image. The kubelet creates containers by the image's id and shows people what the
// status says, so that is the name in the pod's spec, with the digest that its registry knows it by.

import { formatReference, nameOf, parseReference } from "../image/reference.ts";
import type { Image } from "../image/types.ts";
import type { ImageSpec } from "./types.ts";

export interface ShownImage {
  /** For CRI's `image`. */
  readonly name: string;
  /** For CRI's `image_ref`: `repository@sha256:…`, or the image's id where no registry has it. */
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

/** Undefined for nothing, and for what is no name, such as an id. */
function parsed(text: string): ReturnType<typeof parseReference> | undefined {
  try {
    return parseReference(text);
  } catch {
    return undefined;
  }
}
