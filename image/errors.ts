// Every error of image/.

import { catalogue } from "../native/index.ts";

export const imageErrors = catalogue({
  invalidReference: {
    code: "InvalidArgument",
    sentence: 'The image reference "{reference}" is not valid: {problem}.',
    remedy: "Write it as [registry/]repository[:tag][@sha256:digest].",
  },
  // The kubelet matches this first word (cri-api pkg/errors) to show the user the reason, but only with this code: for
  // any other code its client prefixes the code to the message (cri-client, PullImage).
  registryUnavailable: {
    code: "Unknown",
    sentence: "RegistryUnavailable: {object} could not be fetched: {problem}.",
    remedy: "Check that the registry is running and reachable from this node; mirrors are configured in hosts.toml.",
  },
  registryRefused: {
    code: "FailedPrecondition",
    sentence: "{object} could not be fetched: {problem}.",
    remedy: "Contact the registry's operator, or pull from another registry.",
  },
  unauthenticated: {
    code: "Unauthenticated",
    sentence: "{object} could not be fetched: {host} requires valid credentials ({problem}).",
    remedy: "Provide a user and password or a token for {host} in the pull request (imagePullSecrets in Kubernetes).",
  },
  permissionDenied: {
    code: "PermissionDenied",
    sentence: "{object} could not be fetched: {host} denied access ({problem}).",
    remedy: "Request pull access to this repository on {host}.",
  },
  notInRegistry: {
    code: "NotFound",
    sentence: "{object} does not exist in the registry ({problem}).",
    remedy: "Check the repository, tag and digest.",
  },
  unsafeCredentials: {
    code: "FailedPrecondition",
    sentence: "{host} requires a token from {realm}, which would send credentials unencrypted.",
    remedy: "Configure the registry to use an https:// token service.",
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
    remedy: "Reduce its size; nothing was kept.",
  },
  noPlatform: {
    code: "NotFound",
    sentence: "{object} has no image for {platform}, only for {offered}.",
    remedy: "Pull an image built for this node's platform.",
  },
  digestMismatch: {
    code: "FailedPrecondition",
    sentence: "{object} has digest {actual} instead of {expected}, so it was discarded.",
    remedy: "The content is corrupt or forged; pull again, and if the error persists, push the image again.",
  },
  sizeMismatch: {
    code: "FailedPrecondition",
    sentence: "{object} has {actual} bytes instead of {expected}, so it was discarded.",
    remedy: "The content is truncated or forged; pull again, and if the error persists, push the image again.",
  },
  layerRefused: {
    code: "FailedPrecondition",
    sentence: "{object} could not be unpacked: {problem}.",
    remedy: "Rebuild and push the image again; nothing was kept.",
  },
  cancelled: {
    code: "Cancelled",
    sentence: "The pull of {object} was cancelled.",
    remedy: "Pull again; content that has already arrived is kept for a few minutes, unless the daemon stopped.",
  },
  storeClosing: {
    code: "Cancelled",
    sentence: "{object} was not pulled or loaded, because the daemon is stopping.",
    remedy: "Pull or load it again once the daemon is running.",
  },
  invalidHosts: {
    code: "FailedPrecondition",
    sentence: "The registry configuration {file} is not valid: {problem}.",
    remedy: "Correct the file; it is read on every pull.",
  },
  badArchive: {
    code: "InvalidArgument",
    sentence: "The image archive {file} cannot be loaded: {problem}.",
    remedy: "Provide an OCI layout directory, a tar of one, or the output of docker save.",
  },
  noSuchImage: {
    code: "NotFound",
    sentence: "There is no image {reference} on this node.",
    remedy: "Pull it first.",
  },
  tooManyNames: {
    code: "ResourceExhausted",
    sentence: "The image store would hold more than {limit} image names.",
    remedy: "Remove unused images.",
  },
  imageMounted: {
    code: "FailedPrecondition",
    sentence: "The image {image} cannot be removed: container {container} mounts it.",
    remedy: "Remove the container first.",
  },
  notFlushed: {
    code: "Unavailable",
    sentence: "{object} was discarded: some data written at the same time did not reach the disk ({problem}).",
    remedy: "Pull again; check the kernel log for disk errors.",
  },
  layerMissing: {
    code: "FailedPrecondition",
    sentence: "Layer {layer} of an image is no longer on this node's disk.",
    remedy: "Remove the image and pull it again, and find out what deletes files in Keelson's image store.",
  },
  snapshotExists: {
    code: "AlreadyExists",
    sentence: "Container {container} already has a writable layer.",
    remedy: "Remove the container first.",
  },
  noSnapshot: {
    code: "NotFound",
    sentence: "Container {container} has no writable layer.",
    remedy: "It was removed in the meantime; list the containers again.",
  },
  snapshotUnmeasured: {
    code: "Unavailable",
    sentence: "The writable layer of container {container} is still being measured for the first time.",
    remedy: "Retry later; measuring a layer with millions of files takes minutes.",
  },
  invalidContainerId: {
    code: "InvalidArgument",
    sentence: 'The container id "{container}" is not a valid name for a writable layer.',
    remedy: "Container ids are lower-case hex digits.",
  },
  storeBusy: {
    code: "FailedPrecondition",
    sentence: "Another process is using the image store {root}.",
    remedy: "Stop the other keelson process, or give this one a different root.",
  },
});
