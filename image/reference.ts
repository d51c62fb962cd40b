// Image references: `[registry/]repository[:tag][@digest]`, with Docker's short forms.
//
// The grammar is that of github.com/distribution/reference; `busybox` means `docker.io/library/busybox:latest`.
//
// Bounds: the text (`longestText`, checked before parsing) and the name (`longestName`).

import { parseDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { Digest } from "./types.ts";

export interface Reference {
  /** Host and port, lower case as given: `docker.io`, `127.0.0.1:5000`. */
  readonly registry: string;
  readonly repository: string;
  /** Undefined when the reference has a digest, which takes precedence. */
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const label = /^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$/;
const pathComponent = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const longestName = 255;
/** A name, a tag and a digest, with their separators. */
const longestText = longestName + 129 + 72;

/** Parses and normalises. Throws InvalidArgument with the reason. */
export function parseReference(text: string): Reference {
  const problem = (what: string) => imageErrors.invalidReference({ reference: text.slice(0, 300), problem: what });
  if (text === "") throw problem("it is empty");
  if (text.length > longestText) throw problem(`it is longer than ${longestText} characters`);
  if (/^(?:sha256:)?[0-9a-f]{64}$/.test(text)) throw problem("it is an image id, not a name");

  const [beforeDigest = "", digestText, ...more] = text.split("@");
  if (more.length > 0) throw problem("it has more than one @");
  const digest = parseDigest(digestText);
  if (digestText !== undefined && digest === undefined) {
    throw problem("@ must be followed by sha256: and 64 lower-case hex digits");
  }

  const colon = beforeDigest.lastIndexOf(":");
  const hasTag = colon > beforeDigest.lastIndexOf("/");
  const tag = hasTag ? beforeDigest.slice(colon + 1) : undefined;
  if (tag !== undefined && !tagPattern.test(tag)) {
    throw problem("a tag has 1 to 128 letters, digits, dots, dashes and underscores");
  }

  const { registry, repository } = splitName(hasTag ? beforeDigest.slice(0, colon) : beforeDigest);
  if (!isRegistry(registry)) throw problem(`"${registry}" is not a host name with an optional port`);
  if (!repository.split("/").every((component) => pathComponent.test(component))) {
    throw problem(`"${repository}" is not a repository in lower case`);
  }
  if (registry.length + 1 + repository.length > longestName) throw problem("the name is longer than 255 characters");
  return { registry, repository, tag: digest === undefined ? (tag ?? "latest") : undefined, digest };
}

/** A name for tagging an image, normalised: with a tag. Throws InvalidArgument. */
export function parseName(text: string): string {
  const reference = parseReference(text);
  if (reference.digest === undefined) return formatReference(reference);
  throw imageErrors.invalidReference({ reference: text, problem: "a digest is computed and cannot be assigned" });
}

/** A name with a tag or a digest; undefined for an id. */
export function normalise(text: string): string | undefined {
  try {
    return formatReference(parseReference(text));
  } catch {
    // An id, or invalid: not a name in either case.
    return undefined;
  }
}

/** `registry/repository`. */
export function nameOf(reference: Reference): string {
  return `${reference.registry}/${reference.repository}`;
}

/** The whole reference, normalised. */
export function formatReference(reference: Reference): string {
  return reference.digest === undefined
    ? `${nameOf(reference)}:${reference.tag}`
    : `${nameOf(reference)}@${reference.digest}`;
}

function splitName(name: string): { registry: string; repository: string } {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  // As in Docker: only a first part that looks like a host is one; `user/app` belongs to docker.io.
  const isHost = /[.:[]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const registry = !isHost || first === "index.docker.io" ? "docker.io" : first;
  const repository = isHost ? name.slice(slash + 1) : name;
  const isOfficial = registry === "docker.io" && !repository.includes("/");
  return { registry, repository: isOfficial ? `library/${repository}` : repository };
}

/** The URL decides what is an address: [:1] and 1.2.3.400 are neither addresses nor names. */
function isRegistry(text: string): boolean {
  const { host = "", port } = /^(?<host>\[.*\]|[^:]*)(?::(?<port>.*))?$/.exec(text)?.groups ?? {};
  if (port !== undefined && !(/^[0-9]{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535)) return false;
  const isName = host.split(".").every((part) => label.test(part));
  return (isName || /^\[[0-9a-fA-F:]+\]$/.test(host)) && URL.canParse(`https://${text}`);
}
