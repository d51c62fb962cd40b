// Image specs and registry credentials.

import type { RegistryAuth } from "../../image/types.ts";
import type { ImageSpec } from "../../pod/types.ts";
import { required, requiredText, stringMap } from "./decode-fields.ts";
import type { runtime } from "./generated/messages.js";

/** The image named by a request; an empty name is an error. */
export function decodeImageSpec(
  message: runtime.v1.ImageSpec.$Properties | null | undefined,
  field: string,
): ImageSpec {
  const spec = required(message, field, "the image's name, name@digest or id");
  return {
    image: requiredText(spec.image, `${field}.image`, "the image's name, name@digest or id"),
    annotations: stringMap(spec.annotations),
    userSpecifiedImage: spec.userSpecifiedImage ?? "",
    runtimeHandler: spec.runtimeHandler ?? "",
    imageRef: spec.imageRef ?? "",
  };
}

/** Undefined if no field is set: kubelets send an empty message in that case. */
export function decodeAuth(message: runtime.v1.AuthConfig.$Properties | null | undefined): RegistryAuth | undefined {
  const auth = {
    username: message?.username ?? "",
    password: message?.password ?? "",
    auth: message?.auth ?? "",
    identityToken: message?.identityToken ?? "",
    registryToken: message?.registryToken ?? "",
    serverAddress: message?.serverAddress ?? "",
  };
  return auth.username || auth.password || auth.auth || auth.identityToken || auth.registryToken ? auth : undefined;
}
