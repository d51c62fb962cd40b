// Resolves the image of a pull: the repository at its registry, and the manifest there for this host.

import { credentialsFor } from "./auth.ts";
import { loadEndpoints } from "./hosts.ts";
import type { Timeouts } from "./http.ts";
import { ManifestSearch, parseManifest } from "./manifest.ts";
import type { Platform } from "./platform.ts";
import type { ProxyFor } from "./proxy.ts";
import { formatReference, nameOf, type Reference } from "./reference.ts";
import { RegistrySource } from "./registry.ts";
import type { RetryPolicy } from "./retry.ts";
import type { FoundImage } from "./source.ts";
import type { Digest, RegistryAuth } from "./types.ts";

export interface PullOptions {
  /** Directory of the hosts.toml files: `/etc/containerd/certs.d`. */
  readonly hostsDirectory: string;
  readonly timeouts: Timeouts;
  readonly proxyFor: ProxyFor;
  readonly retry: RetryPolicy;
}

/** The caller closes the source. */
export async function openRepository(
  reference: Reference,
  auth: RegistryAuth | undefined,
  { hostsDirectory, timeouts, proxyFor, retry }: PullOptions,
): Promise<RegistrySource> {
  const endpoints = await loadEndpoints(hostsDirectory, reference.registry);
  const credentials = credentialsFor(auth, reference.registry);
  return new RegistrySource({ reference, endpoints, credentials, timeouts, proxyFor, retry });
}

/** The first name has the digest that the reference resolved to, even of an index: a pull by it must find the image. */
export type ImageNames = readonly [string, ...string[]];

/** The names of an image that was pulled by this reference, which the registry resolved to this digest. */
export function namesBy(reference: Reference, digest: Digest): ImageNames {
  const name = `${nameOf(reference)}@${digest}`;
  return reference.tag === undefined ? [name] : [name, formatReference(reference)];
}

/** The image for the platform, with the names that this pull gives it. */
export async function findImage(
  source: RegistrySource,
  reference: Reference,
  platform: Platform,
  signal: AbortSignal,
): Promise<FoundImage> {
  const named = await source.resolve(signal);
  const object = formatReference(reference);
  const document = parseManifest(named.bytes, named.contentType, object);
  const names = namesBy(reference, named.digest);
  if (document.kind !== "index") return { manifest: named, names, source };
  const search = new ManifestSearch(platform, object, ({ digest }) => source.manifest(digest, signal));
  return { manifest: await search.find(document), names, source };
}
