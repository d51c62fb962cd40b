// One repository of a registry, over all its endpoints: Distribution API v2 (OCI distribution-spec, "Pull").
//
// Bounds: manifests, indexes and configs (`documentLimit`), tries (RetryPolicy); the rest in endpoint.ts, http.ts
// and download.ts. A document's digest is computed on the event loop: 4 MiB take about 3 ms.

import type { Writable } from "node:stream";
import { KeelsonError } from "../native/index.ts";
import type { Credentials } from "./auth.ts";
import { digestOf, parseDigest } from "./digest.ts";
import { copyBlob } from "./download.ts";
import { EndpointClient } from "./endpoint.ts";
import { imageErrors } from "./errors.ts";
import { FetchFailure } from "./fetch-failure.ts";
import type { Endpoint } from "./hosts.ts";
import { BodyTooLarge, ConnectionError, HttpConnections, type HttpResponse, header, type Timeouts } from "./http.ts";
import { type Descriptor, documentLimit, type FoundManifest, manifestTypes, parseManifest } from "./manifest.ts";
import type { ProxyFor } from "./proxy.ts";
import { formatReference, type Reference } from "./reference.ts";
import { backOff, type RetryPolicy } from "./retry.ts";
import type { ContentSource } from "./source.ts";
import type { Digest } from "./types.ts";

export interface RegistryOptions {
  readonly reference: Reference;
  readonly endpoints: readonly Endpoint[];
  readonly credentials: Credentials | undefined;
  readonly timeouts: Timeouts;
  readonly proxyFor: ProxyFor;
  readonly retry: RetryPolicy;
}

export interface FetchedManifest extends FoundManifest {
  readonly digest: Digest;
}

interface Delivery {
  readonly response: HttpResponse;
  readonly client: EndpointClient;
}

/** A part of the repository to fetch. */
interface Wanted {
  /** Relative to the repository's URL. */
  readonly path: string;
  /** Names it in messages. */
  readonly object: string;
  readonly headers: ReadonlyMap<string, string>;
  /** Which endpoints may serve it. */
  readonly isFit: (endpoint: Endpoint) => boolean;
  /** Factor for the response timeout, by the number of turns in which all endpoints have failed; 1 when absent. */
  readonly patience?: (turn: number) => number;
}

const acceptManifest: ReadonlyMap<string, string> = new Map([["accept", manifestTypes.join(", ")]]);
const acceptAnything: ReadonlyMap<string, string> = new Map([["accept", "*/*"]]);
const canResolve = (endpoint: Endpoint) => endpoint.canResolve;
const canPull = (endpoint: Endpoint) => endpoint.canPull;
/**
 * Some caches answer only once they have the complete layer, and abandon it when we disconnect: each turn waits twice
 * as long as the previous one. The first turn waits the usual time, so that dead hosts cost no more than that.
 */
const doubledEachTurn = (turn: number) => 2 ** turn;

/** Content of one repository. `close` ends its connections. */
export class RegistrySource implements ContentSource {
  readonly origin: string;
  readonly #options: RegistryOptions;
  readonly #connections: HttpConnections;
  /** In the order to try: the one that delivered last comes first, one whose responses break off comes last. */
  #clients: readonly EndpointClient[];
  /** Hosts that sent wrong content, such as a mirror with a damaged copy: they are not used any more. */
  readonly #wrong = new Map<Endpoint, FetchFailure>();
  /** The client that delivered the first bytes of each copied blob. */
  readonly #senders = new Map<Digest, EndpointClient>();

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.origin = options.reference.registry;
    this.#connections = new HttpConnections(options.timeouts, options.proxyFor);
    const { reference, credentials, retry } = options;
    this.#clients = options.endpoints.map(
      (endpoint) =>
        new EndpointClient({
          endpoint,
          registry: reference.registry,
          repository: reference.repository,
          credentials,
          connections: this.#connections,
          longestAskedMs: retry.longestAskedMs,
        }),
    );
  }

  /** The manifest or index that the reference names. */
  async resolve(signal: AbortSignal): Promise<FetchedManifest> {
    const { digest, tag } = this.#options.reference;
    if (digest !== undefined) return this.manifest(digest, signal);
    const object = formatReference(this.#options.reference);
    const check = ({ bytes, contentType }: FetchedManifest) => void parseManifest(bytes, contentType, object);
    const wanted = { path: `manifests/${tag}`, object, headers: acceptManifest, isFit: canResolve };
    return this.#document(wanted, check, signal);
  }

  /**
   * The digest that the reference resolves to now, by a HEAD request, which registries with pull limits do not count.
   * Undefined when no host answers: `resolve` then reports why.
   */
  async currentDigest(signal: AbortSignal): Promise<Digest | undefined> {
    const { digest, tag } = this.#options.reference;
    const isFit = digest === undefined ? canResolve : canPull;
    for (const client of this.#clients) {
      if (!isFit(client.endpoint)) continue;
      try {
        const response = await client.head(`manifests/${digest ?? tag}`, acceptManifest, signal);
        return digest ?? parseDigest(header(response, "docker-content-digest"));
      } catch (error) {
        if (!(error instanceof FetchFailure)) throw error;
      }
    }
    return undefined;
  }

  /** A manifest or index by digest, verified. */
  async manifest(digest: Digest, signal: AbortSignal): Promise<FetchedManifest> {
    const object = `Manifest ${digest} of ${formatReference(this.#options.reference)}`;
    const check = (found: FetchedManifest) => {
      if (found.digest !== digest) throw imageErrors.digestMismatch({ object, actual: found.digest, expected: digest });
    };
    const wanted = { path: `manifests/${digest}`, object, headers: acceptManifest, isFit: canPull };
    return this.#document(wanted, check, signal);
  }

  async read(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer> {
    const object = `Blob ${descriptor.digest} of ${formatReference(this.#options.reference)}`;
    if (descriptor.size > documentLimit) throw imageErrors.tooLarge({ object, limit: documentLimit });
    const check = ({ bytes, digest }: FetchedManifest) => {
      if (digest !== descriptor.digest)
        throw imageErrors.digestMismatch({ object, actual: digest, expected: descriptor.digest });
      if (bytes.length !== descriptor.size)
        throw imageErrors.sizeMismatch({ object, actual: bytes.length, expected: descriptor.size });
    };
    const wanted = { path: `blobs/${descriptor.digest}`, object, headers: acceptAnything, isFit: canPull };
    return (await this.#document(wanted, check, signal)).bytes;
  }

  async copy({ digest, size }: Descriptor, start: number, sink: Writable, signal: AbortSignal): Promise<void> {
    const object = `Layer ${digest} of ${formatReference(this.#options.reference)}`;
    const senders: EndpointClient[] = [];
    this.#senders.delete(digest);
    await copyBlob({
      object,
      start,
      size,
      sink,
      retry: this.#options.retry,
      connections: this.#connections,
      open: async (offset) => {
        // Some registries do not support open-ended ranges, such as go-containerregistry's.
        const headers = new Map(offset > 0 ? [["range", `bytes=${offset}-${size - 1}`]] : []);
        const wanted = { path: `blobs/${digest}`, object, headers, isFit: canPull, patience: doubledEachTurn };
        const { response, client } = await this.#fetch(wanted, signal);
        senders.push(client);
        this.#senders.set(digest, senders[0] ?? client);
        return response;
      },
      onNoProgress: () => this.#moveToEnd(senders.at(-1)),
      signal,
    });
  }

  distrust({ digest }: Descriptor): boolean {
    const sender = this.#senders.get(digest);
    return sender !== undefined && this.#exclude(sender, canPull);
  }

  close(): void {
    this.#connections.close();
  }

  /** `check` throws when a document is wrong; then another host may have the right one. */
  async #document(
    wanted: Wanted,
    check: (document: FetchedManifest) => void,
    signal: AbortSignal,
  ): Promise<FetchedManifest> {
    const { object, isFit } = wanted;
    for (let next = 2; ; ) {
      const { response, client } = await this.#fetch(wanted, signal);
      try {
        const bytes = await this.#connections.readBody(response, documentLimit, signal);
        const document = { bytes, digest: digestOf(bytes), contentType: header(response, "content-type") ?? "" };
        check(document);
        return document;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof BodyTooLarge) throw imageErrors.tooLarge({ object, limit: documentLimit }, error);
        if (error instanceof KeelsonError && this.#exclude(client, isFit)) continue;
        if (!(error instanceof ConnectionError)) throw error;
        if (next > this.#options.retry.tries) {
          throw imageErrors.registryUnavailable({ object, problem: error.message }, error);
        }
        if (next > 2) this.#moveToEnd(client);
        await backOff(this.#options.retry, next, 0, signal);
        next += 1;
      }
    }
  }

  #moveToEnd(client: EndpointClient | undefined): void {
    if (client !== undefined) this.#clients = [...this.#clients.filter((other) => other !== client), client];
  }

  /** Excludes the endpoint; false, without any effect, when no other host is fit. */
  #exclude({ endpoint }: EndpointClient, isFit: (endpoint: Endpoint) => boolean): boolean {
    const others = this.#options.endpoints.filter((other) => other !== endpoint && !this.#wrong.has(other));
    if (!others.some(isFit)) return false;
    const problem = "it sent wrong content";
    this.#wrong.set(endpoint, new FetchFailure("refused", endpoint.host, problem));
    return true;
  }

  /**
   * Tries the endpoints in order, and retries those with transient failures when none delivers. If all fail, the error
   * of the last one (the registry's own) decides the code.
   */
  async #fetch(wanted: Wanted, signal: AbortSignal): Promise<Delivery> {
    const { path, object, headers, isFit, patience = () => 1 } = wanted;
    const { endpoints, reference, retry } = this.#options;
    const failures = new Map(this.#wrong);
    for (let next = 2; ; next++) {
      for (const client of this.#clients) {
        const { againAt = Number.POSITIVE_INFINITY } = failures.get(client.endpoint) ?? { againAt: 0 };
        if (!isFit(client.endpoint) || againAt > performance.now()) continue;
        try {
          const response = await getPartOrWhole(client, path, headers, patience(next - 2), signal);
          this.#clients = [client, ...this.#clients.filter((other) => other !== client)];
          return { response, client };
        } catch (error) {
          signal.throwIfAborted();
          if (!(error instanceof FetchFailure)) throw error;
          failures.set(client.endpoint, error);
        }
      }
      const inOrder = endpoints.flatMap((endpoint) => failures.get(endpoint) ?? []);
      const soonest = Math.min(...inOrder.map(({ againAt = Number.POSITIVE_INFINITY }) => againAt));
      if (soonest === Number.POSITIVE_INFINITY || next > retry.tries)
        throw explain(object, inOrder, reference.registry);
      // Timers may fire a millisecond early.
      await backOff(retry, next, soonest + 1 - performance.now(), signal);
    }
  }
}

/** Some registries, or the storage behind them, refuse range requests but serve the complete blob. */
async function getPartOrWhole(
  client: EndpointClient,
  path: string,
  headers: ReadonlyMap<string, string>,
  patience: number,
  signal: AbortSignal,
): Promise<HttpResponse> {
  try {
    return await client.get(path, headers, patience, signal);
  } catch (error) {
    if (!headers.has("range") || !(error instanceof FetchFailure && error.kind === "refused")) throw error;
    return await client.get(path, new Map(), patience, signal);
  }
}

function explain(object: string, failures: readonly FetchFailure[], registry: string): Error {
  const decisive = failures.at(-1);
  if (decisive === undefined) {
    return imageErrors.registryUnavailable({
      object,
      problem: `hosts.toml of ${registry} has no host with the required capability`,
    });
  }
  if (decisive.cause instanceof KeelsonError) return decisive.cause;
  const problem = failures
    .map((failure) =>
      failure.message.startsWith(failure.host) ? failure.message : `${failure.host}: ${failure.message}`,
    )
    .join("; ");
  const values = { object, host: decisive.host, problem };
  switch (decisive.kind) {
    case "unavailable":
      return imageErrors.registryUnavailable(values, decisive);
    case "refused":
      return imageErrors.registryRefused(values, decisive);
    case "unauthenticated":
      return imageErrors.unauthenticated(values, decisive);
    case "forbidden":
      return imageErrors.permissionDenied(values, decisive);
    case "missing":
      return imageErrors.notInRegistry(values, decisive);
  }
}
