// Requests to one host of a registry: authorization, redirects, and whether a failure is transient.
//
// Bounds: redirects (`redirectLimit`), the body of an error (`errorBodyLimit`; 300 characters of it are shown).

import { KeelsonError, readJsonObject } from "../native/index.ts";
import { Authorizer, type Credentials, TokenServiceTrouble } from "./auth.ts";
import { type FailureKind, FetchFailure } from "./fetch-failure.ts";
import { type Endpoint, noTls } from "./hosts.ts";
import { ConnectionError, type HttpConnections, type HttpResponse, header } from "./http.ts";
import { askedDelay } from "./retry.ts";

export interface EndpointOptions {
  readonly endpoint: Endpoint;
  /** As in the reference; sent to mirrors as `?ns=`. */
  readonly registry: string;
  readonly repository: string;
  readonly credentials: Credentials | undefined;
  readonly connections: HttpConnections;
  /** Milliseconds: a host whose Retry-After is longer is not retried. */
  readonly longestAskedMs: number;
}

interface Query {
  readonly method: "GET" | "HEAD";
  readonly headers: ReadonlyMap<string, string>;
  /** See HttpRequest. */
  readonly patience?: number;
}

const redirectLimit = 5;
const errorBodyLimit = 8 * 1024;
/** Codes from 520 on are Cloudflare's, for a server that it cannot reach at the moment. */
const transientStatuses: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]);

export class EndpointClient {
  readonly endpoint: Endpoint;
  readonly #options: EndpointOptions;
  readonly #authorizer: Authorizer;
  /** Authorizers of hosts that we were redirected to, by origin. */
  readonly #redirectTargets = new Map<string, Authorizer>();

  constructor(options: EndpointOptions) {
    this.endpoint = options.endpoint;
    this.#options = options;
    this.#authorizer = new Authorizer(options.endpoint, options.credentials, options.repository, options.connections);
  }

  /** GETs `<base>/<repository>/<path>` once; resolves with a 200 or 206, its body still unread. Throws FetchFailure. */
  async get(
    path: string,
    headers: ReadonlyMap<string, string>,
    patience: number,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    return await this.#ask(path, { method: "GET", headers, patience }, signal);
  }

  /** As `get`, but with a HEAD request and thus without a body. */
  async head(path: string, headers: ReadonlyMap<string, string>, signal: AbortSignal): Promise<HttpResponse> {
    const response = await this.#ask(path, { method: "HEAD", headers }, signal);
    this.#options.connections.discard(response);
    return response;
  }

  async #ask(path: string, what: Query, signal: AbortSignal): Promise<HttpResponse> {
    const { endpoint, registry, repository } = this.#options;
    const url = new URL(`${endpoint.base}/${repository}/${path}`);
    if (!endpoint.isServer) url.searchParams.set("ns", registry);
    try {
      const response = await this.#authorized(url, what, signal);
      const status = response.statusCode;
      if (status === 200 || status === 206) return response;
      throw await this.#failure(response, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ConnectionError)) throw error;
      const askedMs = error instanceof TokenServiceTrouble ? error.askedMs : 0;
      const againAt = error.transient ? this.#againAt(askedMs) : undefined;
      throw new FetchFailure("unavailable", endpoint.host, error.message, { cause: error, againAt });
    }
  }

  #againAt(askedMs: number): number | undefined {
    return askedMs > this.#options.longestAskedMs ? undefined : performance.now() + askedMs;
  }

  /** Answers each host that requires authorization once: our own, and any that it redirects to. */
  async #authorized(url: URL, what: Query, signal: AbortSignal): Promise<HttpResponse> {
    const asked = new Set<string>();
    for (;;) {
      const { response, host, sent } = await this.#followed(url, what, signal);
      if (response.statusCode !== 401 || asked.has(host) || asked.size > redirectLimit) return response;
      asked.add(host);
      const authorizer = this.#authorizerOf(host, url.origin);
      if (!(await this.#answered(authorizer, response, sent, signal))) return response;
      this.#options.connections.discard(response);
    }
  }

  /** A host that we were redirected to never gets our credentials: requests there are anonymous. */
  #authorizerOf(host: string, home: string): Authorizer {
    if (host === home) return this.#authorizer;
    const { repository, connections } = this.#options;
    const { endpoint } = this;
    const target = { ...endpoint, base: host, tls: noTls, headers: [] };
    const known = this.#redirectTargets.get(host) ?? new Authorizer(target, undefined, repository, connections);
    this.#redirectTargets.set(host, known);
    return known;
  }

  /** A broken token service fails only its own host: the next host may have a working one. */
  async #answered(
    authorizer: Authorizer,
    response: HttpResponse,
    sent: string | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      return await authorizer.answer(response, sent, signal);
    } catch (error) {
      this.#options.connections.discard(response);
      if (!(error instanceof KeelsonError)) throw error;
      throw new FetchFailure("refused", this.endpoint.host, error.message, { cause: error });
    }
  }

  /** Follows redirects; the host's credentials, headers and TLS settings apply to requests to that host only. */
  async #followed(
    start: URL,
    { headers, ...how }: Query,
    signal: AbortSignal,
  ): Promise<{ readonly response: HttpResponse; readonly host: string; readonly sent: string | undefined }> {
    const { endpoint, connections } = this.#options;
    let url = start;
    for (let redirects = 0; redirects <= redirectLimit; redirects++) {
      const isHome = url.origin === start.origin;
      const all = new Map<string, string | readonly string[]>([["user-agent", "keelson"], ...headers]);
      if (isHome) {
        for (const [name, values] of endpoint.headers) all.set(name, values);
      }
      const sent = (isHome ? this.#authorizer : this.#redirectTargets.get(url.origin))?.header;
      if (sent !== undefined) all.set("authorization", sent);
      const tls = isHome ? endpoint.tls : noTls;
      const response = await connections.send({ ...how, url, headers: all, tls, signal });
      const status = response.statusCode;
      if (status < 300 || status >= 400) return { response, host: url.origin, sent };
      connections.discard(response);
      const target = URL.parse(header(response, "location") ?? "", url.href);
      if (target === null || !/^https?:$/.test(target.protocol)) {
        throw new FetchFailure("refused", endpoint.host, `it redirects without a valid location (status ${status})`);
      }
      if (url.protocol === "https:" && target.protocol === "http:") {
        throw new FetchFailure("refused", endpoint.host, `it redirects from https to http (${target.host})`);
      }
      url = target;
    }
    throw new FetchFailure("refused", endpoint.host, `it redirects more than ${redirectLimit} times`);
  }

  async #failure(response: HttpResponse, signal: AbortSignal): Promise<FetchFailure> {
    const status = response.statusCode;
    const askedMs = askedDelay(header(response, "retry-after"), Date.now());
    const againAt = transientStatuses.has(status) ? this.#againAt(askedMs) : undefined;
    const asked = askedMs > 0 ? `, retry after ${Math.ceil(askedMs / 1000)} s` : "";
    const problem = `status ${status}${await this.#errorText(response, signal)}${asked}`;
    return new FetchFailure(kindOf(status), this.endpoint.host, problem, { againAt });
  }

  /** The first of the spec's `errors`, for messages. */
  async #errorText(response: HttpResponse, signal: AbortSignal): Promise<string> {
    try {
      const body = await this.#options.connections.readBody(response, errorBodyLimit, signal);
      const first = readJsonObject(body).objects("errors")[0];
      const text = [first?.string("code"), first?.string("message")].filter(Boolean).join(": ");
      return text === "" ? "" : `, ${text.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 300)}`;
    } catch {
      // The body is no such document: the status alone has to do.
      signal.throwIfAborted();
      return "";
    }
  }
}

function kindOf(status: number): FailureKind {
  if (status === 401) return "unauthenticated";
  if (status === 403) return "forbidden";
  if (status === 404) return "missing";
  return transientStatuses.has(status) || status >= 500 ? "unavailable" : "refused";
}
