// Every error that images can end in.

import { catalogue } from "../native/index.ts";

export const imageErrors = catalogue({
  invalidReference: {
    code: "InvalidArgument",
    sentence: 'The image reference "{reference}" is not valid: {problem}.',
    remedy: "Write it as [registry/]repository[:tag][@sha256:digest].",
  },
  // The kubelet looks for this very first word (cri-api pkg/errors) to tell the user why, in errors of this code alone:
  // its client puts the code before the sentence of any other (cri-client, PullImage).
  registryUnavailable: {
    code: "Unknown",
    sentence: "RegistryUnavailable: {object} could not be fetched: {problem}.",
    remedy: "Check that the registry runs and that this node reaches it; mirrors are set up in hosts.toml.",
  },
  registryRefused: {
    code: "FailedPrecondition",
    sentence: "{object} could not be fetched: {problem}.",
    remedy: "Ask the registry's operator, or pull from another registry.",
  },
  unauthenticated: {
    code: "Unauthenticated",
    sentence: "{object} could not be fetched: {host} wants other credentials ({problem}).",
    remedy: "Give a valid user and password or token for {host} in the pull request (imagePullSecrets in Kubernetes).",
  },
  permissionDenied: {
    code: "PermissionDenied",
    sentence: "{object} could not be fetched: {host} forbids it ({problem}).",
    remedy: "Ask for pull rights on this repository of {host}.",
  },
  notInRegistry: {
    code: "NotFound",
    sentence: "{object} does not exist in the registry ({problem}).",
    remedy: "Check the repository, the tag and the digest.",
  },
  unsafeCredentials: {
    code: "FailedPrecondition",
    sentence: "{host} wants its token fetched from {realm}, which would send credentials unencrypted.",
    remedy: "Have the registry name an https:// token service.",
  },
  malformed: {
    code: "FailedPrecondition",
    sentence: "{object} is malformed: {problem}.",
    remedy: "Push or save the image again with a current tool.",
  },
  unsupported: {
    code: "Unimplemented",
    sentence: "{object} is not supported: {problem}.",
    remedy: "Use an OCI or Docker schema 2 image with plain, gzip or zstd layers.",
  },
  tooLarge: {
    code: "ResourceExhausted",
    sentence: "{object} is larger than {limit} bytes.",
    remedy: "Nothing of it was kept; use a smaller one.",
  },
  noPlatform: {
    code: "NotFound",
    sentence: "{object} has no image for {platform}, only for {offered}.",
    remedy: "Pull an image that is built for this node's platform.",
  },
  digestMismatch: {
    code: "FailedPrecondition",
    sentence: "{object} has digest {actual} instead of {expected}, so it was thrown away.",
    remedy: "The content is damaged or forged; pull again, and if it stays so, push the image again.",
  },
  sizeMismatch: {
    code: "FailedPrecondition",
    sentence: "{object} has {actual} bytes instead of {expected}, so it was thrown away.",
    remedy: "The content is cut off or forged; pull again, and if it stays so, push the image again.",
  },
  layerRefused: {
    code: "FailedPrecondition",
    sentence: "{object} could not be unpacked: {problem}.",
    remedy: "Nothing of it was kept; build and push the image again.",
  },
  cancelled: {
    code: "Cancelled",
    sentence: "The pull of {object} was cancelled.",
    remedy: "Pull again; what had come by then is kept for some minutes, unless the server stopped.",
  },
  invalidHosts: {
    code: "FailedPrecondition",
    sentence: "The registry configuration {file} is not valid: {problem}.",
    remedy: "Correct the file; it is read at each pull.",
  },
  badArchive: {
    code: "InvalidArgument",
    sentence: "The image archive {file} cannot be loaded: {problem}.",
    remedy: "Give an OCI layout directory, or a tar of one, or the output of docker save.",
  },
  noSuchImage: {
    code: "NotFound",
    sentence: "There is no image {reference} on this node.",
    remedy: "Pull it first.",
  },
  tooManyNames: {
    code: "ResourceExhausted",
    sentence: "The image store would hold more than {limit} names of images.",
    remedy: "Remove images that nobody needs.",
  },
  imageMounted: {
    code: "FailedPrecondition",
    sentence: "The image {image} cannot be removed: container {container} mounts it.",
    remedy: "Remove the container first.",
  },
  notFlushed: {
    code: "Unavailable",
    sentence: "{object} was thrown away: not all that was written at the same time reached the disk ({problem}).",
    remedy: "Pull again; what is wrong with the disk stands in the kernel's log.",
  },
  layerMissing: {
    code: "FailedPrecondition",
    sentence: "Layer {layer} of an image is no longer on this node's disk.",
    remedy: "Remove the image and pull it again, and see who deletes files in Keelson's image store.",
  },
  snapshotExists: {
    code: "AlreadyExists",
    sentence: "Container {container} already has a writable layer.",
    remedy: "Remove the container first.",
  },
  noSnapshot: {
    code: "NotFound",
    sentence: "Container {container} has no writable layer.",
    remedy: "It was removed meanwhile; list the containers again.",
  },
  snapshotUnmeasured: {
    code: "Unavailable",
    sentence: "The writable layer of container {container} is still being measured for the first time.",
    remedy: "Ask again; one of millions of files takes minutes.",
  },
  invalidContainerId: {
    code: "InvalidArgument",
    sentence: 'The container id "{container}" cannot name a writable layer.',
    remedy: "Container ids are lower-case hex digits.",
  },
  storeBusy: {
    code: "FailedPrecondition",
    sentence: "Another process works on the image store {root}.",
    remedy: "Stop the other keelson first, or give this one another root.",
  },
});
