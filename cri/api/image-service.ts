// runtime.v1.ImageService and keelson.v1.Images: each RPC is decode, one call of the image store, encode.

import { once } from "node:events";
import { isAbsolute } from "node:path";
import type { Image, ImageStore } from "../../image/types.ts";
import { isDoneWithin } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { invalid } from "./decode-fields.ts";
import { decodeAuth, decodeImageSpec } from "./decode-image.ts";
import { encodeInfo, toLong } from "./encode-fields.ts";
import { imageEncoder } from "./encode-image.ts";
import { encodeFileSystemUse } from "./encode-stats.ts";
import { Encoded, inMessages } from "./encoded.ts";
import { type keelson, runtime } from "./generated/messages.js";
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

    /** A missing image is an empty response, not an error. */
    async ImageStatus(request) {
      const image = images.find(decodeImageSpec(request.image, "image").image);
      if (image === undefined) return {};
      if (!request.verbose) return new Encoded(encoder.image(image));
      const imageSpec = await images.document(image.id);
      const info = encodeInfo({ info: { chainIds: image.chainIds, imageSpec } });
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
    async *Load({ path }, call) {
      if (!isAbsolute(path)) throw invalid("path", path, "an absolute path on the daemon's host");
      yield* withProgress(images, path, images.load(path, call.signal));
    },

    async *Pull(request, call) {
      const { image } = decodeImageSpec({ image: request.image }, "image");
      const pulled = images.pull(image, undefined, call.signal).then((each) => [each]);
      yield* withProgress(images, image, pulled);
    },

    async Tag({ image, name }) {
      return { image: encodeLoaded(await images.tag(image, name)) };
    },

    async *Save(request, call) {
      const { index, blobs, release } = images.hold(request.images);
      try {
        yield { index, blobs: blobs.map((blob) => ({ ...blob, size: toLong(BigInt(blob.size)) })) };
        if (call.signal.aborted || (await isDoneWithin(once(call.signal, "abort"), holdMs))) return;
        throw criErrors.blobsLetGo({ seconds: holdMs / 1000 });
      } finally {
        release();
      }
    },
  };
}

const progressMs = 200;
/** Time for the caller of Save to open the blobs. */
const holdMs = 60_000;

async function* withProgress(
  images: Pick<ImageStore, "transfer">,
  subject: string,
  work: Promise<readonly Image[]>,
): AsyncGenerator<keelson.v1.Transfer.$Properties> {
  while (!(await isDoneWithin(work, progressMs))) {
    const { done, total } = (await images.transfer(subject)) ?? { done: 0, total: 0 };
    yield { done: toLong(BigInt(done)), total: toLong(BigInt(total)) };
  }
  yield { images: (await work).map(encodeLoaded) };
}

function encodeLoaded({ id, tags, size }: Image): keelson.v1.LoadedImage.$Properties {
  return { id, tags: [...tags], size: toLong(size) };
}

function only(image: Image | undefined): readonly Image[] {
  return image === undefined ? [] : [image];
}
