// runtime.v1.ImageService and keelson.v1.Images: each RPC is decode, one call of the image store, encode.

import { isAbsolute } from "node:path";
import type { Image, ImageStore } from "../../image/types.ts";
import { invalid } from "./decode-fields.ts";
import { decodeAuth, decodeImageSpec } from "./decode-image.ts";
import { encodeInfo, toLong } from "./encode-fields.ts";
import { imageEncoder } from "./encode-image.ts";
import { encodeFileSystemUse } from "./encode-stats.ts";
import { Encoded, inMessages } from "./encoded.ts";
import { runtime } from "./generated/messages.js";
import type { Handlers, imageMethods, keelsonImageMethods } from "./methods.ts";

export function imageService(images: ImageStore): Handlers<typeof imageMethods> {
  const encoder = imageEncoder();
  const listed = ({ filter }: runtime.v1.ListImagesRequest.$Properties) => {
    const wanted = filter?.image?.image;
    return (wanted ? only(images.find(wanted)) : images.list()).map(encoder.image);
  };
  return {
    async ListImages(request) {
      return new Encoded(Buffer.concat(listed(request)));
    },

    async *StreamImages(request) {
      yield* inMessages(listed(request));
    },

    /** A miss is an empty answer, not an error. */
    async ImageStatus(request) {
      const image = images.find(decodeImageSpec(request.image, "image").image);
      if (image === undefined) return {};
      if (!request.verbose) return new Encoded(encoder.image(image));
      const info = encodeInfo({ info: { chainIds: image.chainIds, imageSpec: image.config } });
      return new Encoded(
        Buffer.concat([encoder.image(image), runtime.v1.ImageStatusResponse.encode({ info }).finish()]),
      );
    },

    async PullImage(request, call) {
      const { image } = decodeImageSpec(request.image, "image");
      const pulled = await images.pull(image, decodeAuth(request.auth), call.signal);
      return { imageRef: pulled.id };
    },

    async RemoveImage(request) {
      await images.remove(decodeImageSpec(request.image, "image").image);
      return {};
    },

    async ImageFsInfo() {
      const use = await images.fileSystemUse();
      return {
        imageFilesystems: [encodeFileSystemUse(use.images)],
        containerFilesystems: [encodeFileSystemUse(use.containers)],
      };
    },
  };
}

export function keelsonImageService(images: ImageStore): Handlers<typeof keelsonImageMethods> {
  return {
    async Load(request, call) {
      if (!isAbsolute(request.path)) throw invalid("path", request.path, "an absolute path on the daemon's host");
      const loaded = await images.load(request.path, call.signal);
      return { images: loaded.map(({ id, tags, size }) => ({ id, tags: [...tags], size: toLong(size) })) };
    },
  };
}

function only(image: Image | undefined): readonly Image[] {
  return image === undefined ? [] : [image];
}
