// Images → protobuf. An Image object is immutable, so each is encoded once.

import type { Image } from "../../image/types.ts";
import { toLong } from "./encode-fields.ts";
import { fieldCache } from "./encoded.ts";
import { runtime } from "./generated/messages.js";

export interface ImageEncoder {
  /** ListImagesResponse.images and ImageStatusResponse.image: both are field 1. */
  image(image: Image): Buffer;
}

export function imageEncoder(): ImageEncoder {
  return { image: fieldCache(1, runtime.v1.Image, describe) };
}

function describe(image: Image): runtime.v1.Image.$Properties {
  return {
    id: image.id,
    repoTags: [...image.tags],
    repoDigests: [...image.repoDigests],
    size: toLong(image.size),
    ...describeUser(image.config.user),
    pinned: image.pinned,
  };
}

/** "1000:1000" is uid 1000, "www-data:users" the user name; without either the kubelet assumes root. */
function describeUser(user: string): Pick<runtime.v1.Image.$Properties, "uid" | "username"> {
  const [name = ""] = user.split(":", 1);
  if (!/^\d+$/.test(name)) return { username: name };
  return { uid: { value: toLong(BigInt(name)) } };
}
