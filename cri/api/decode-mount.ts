// A container's Mount, of a host path or an image. The rules are from CRI (api.proto, Mount).

import type { Mount } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import {
  absolutePath,
  enumName,
  invalid,
  pathInContainer,
  pathInside,
  plainText,
  present,
  requiredText,
} from "./decode-fields.ts";
import { decodeImageSpec } from "./decode-image.ts";
import { decodeIdMappings } from "./decode-security.ts";
import type { runtime } from "./generated/messages.js";

const propagations = ["private", "host-to-container", "bidirectional"] as const;
const mountOptions: ReadonlySet<string> = new Set(["noexec", "nodev", "nosuid"]);

export function decodeMount(message: runtime.v1.Mount.$Properties, field: string): Mount {
  const image = message.image?.image ? decodeImageSpec(message.image, `${field}.image`) : undefined;
  const mount: Mount = {
    containerPath: pathInContainer(
      requiredText(message.containerPath, `${field}.container_path`, "an absolute path"),
      `${field}.container_path`,
    ),
    hostPath: image
      ? plainText(message.hostPath, `${field}.host_path`)
      : absolutePath(message.hostPath, `${field}.host_path`),
    readonly: message.readonly ?? false,
    selinuxRelabel: message.selinuxRelabel ?? false,
    propagation: enumName(message.propagation, `${field}.propagation`, propagations),
    uidMappings: decodeIdMappings(message.uidMappings, `${field}.uidMappings`),
    gidMappings: decodeIdMappings(message.gidMappings, `${field}.gidMappings`),
    recursiveReadOnly: message.recursiveReadOnly ?? false,
    ...present(image, (image) => ({ image })),
    // In a pod with an image volume the kubelet also sets it on other mounts, from their subPath: ignored there.
    imageSubPath: image ? pathInside(message.imageSubPath, `${field}.image_sub_path`) : "",
    mountOptions: (message.mountOptions ?? []).map((option, n) => {
      if (!mountOptions.has(option)) throw invalid(`${field}.mount_options[${n}]`, option, "noexec, nodev or nosuid");
      return option;
    }),
  };
  refuseContradictions(mount, field);
  return mount;
}

function refuseContradictions(mount: Mount, field: string): void {
  const conflict = (name: string, other: string, remedy: string) =>
    criErrors.fieldsConflict({ field: `${field}.${name}`, other, remedy });
  if (mount.recursiveReadOnly && !mount.readonly) {
    throw conflict("recursive_read_only", "readonly = false", "Set readonly too.");
  }
  if (mount.recursiveReadOnly && mount.propagation !== "private") {
    throw conflict("recursive_read_only", `propagation ${mount.propagation}`, "Use PROPAGATION_PRIVATE.");
  }
  if (mount.image && mount.hostPath !== "") {
    throw conflict("image", "host_path", "Set one of the two.");
  }
  if (mount.image && !mount.readonly) {
    throw conflict("image", "readonly = false", "Set readonly: images cannot be written to.");
  }
}
