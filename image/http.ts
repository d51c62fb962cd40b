// One HTTP exchange with a registry, and its body, each with deadlines and bounds. No redirects, no retries here.
//
// Bounds: headers (undici's own 16 KiB); a body that is read into memory (the caller's limit and `documentMs`; the
// stream joins small pieces by itself); a body that is streamed (`stallMs` between pieces, counted only while we wait;
// the reader checks its size).

import { createSecureContext, getCACertificates, setDefaultCACertificates } from "node:tls";
import type { Dispatcher } from "undici";
import api from "undici/lib/api/index.js";
import errors from "undici/lib/core/errors.js";
import Agent from "undici/lib/dispatcher/agent.js";
import ProxyAgent from "undici/lib/dispatcher/proxy-agent.js";
import { beginWork, TimeLimit } from "../native/index.ts";
import type { TlsSettings } from "./hosts.ts";
import { BadProxy, type ProxyFor } from "./proxy.ts";

export interface Timeouts {
  /** Milliseconds until connected, including TLS. */
  readonly connectMs: number;
  /** Milliseconds from there until the response headers have arrived. */
  readonly responseMs: number;
  /** Milliseconds that a body may stall while we wait for it. */
  readonly stallMs: number;
  /** Milliseconds for reading a complete small document. */
  readonly documentMs: number;
}

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: URL;
  readonly headers: ReadonlyMap<string, string | readonly string[]>;
  readonly body?: string;
  readonly tls: TlsSettings;
  /** Multiplies `responseMs` for this request; 1 when absent. */
  readonly patience?: number;
  readonly signal: AbortSignal;
}

/** The headers have arrived; the body must still be read, discarded or given up. */
export type HttpResponse = Dispatcher.ResponseData;

/** The connection failed or stalled. */
export class ConnectionError extends Error {
  /** False when a retry would fail the same way (connection refused, unknown host, bad certificate). */
  readonly transient: boolean;

  constructor(message: string, transient: boolean, cause?: unknown) {
    super(message, { cause });
    this.transient = transient;
  }
}

export class BodyTooLarge extends Error {}

/** Bytes that are cheaper to read than to open a new connection. */
const drainLimit = 64 * 1024;
/** How late undici's timeouts may fire: their resolution is seconds. */
const coarseMs = 2_000;

/** Connections of one pull, kept alive between requests until `close`. */
export class HttpConnections {
  readonly #timeouts: Timeouts;
  readonly #proxyFor: ProxyFor;
  /** By TLS settings, then by origin. */
  readonly #agents = new Map<TlsSettings, Map<string, Dispatcher>>();

  constructor(timeouts: Timeouts, proxyFor: ProxyFor) {
    this.#timeouts = timeouts;
    this.#proxyFor = proxyFor;
  }

  /** Sends a request and resolves with the response once its headers have arrived. */
  async send({ method, url, headers, body, tls, patience = 1, signal }: HttpRequest): Promise<HttpResponse> {
    signal.throwIfAborted();
    const responseMs = this.#timeouts.responseMs * patience;
    const proxy = this.#proxyOf(url);
    // Must never include the proxy's password.
    const way = proxy === undefined ? url.host : `${url.host} via the proxy ${proxy.host}`;
    const ended = beginWork("registry request", () => `${method} ${url.host}${url.pathname}`, url.host);
    // Via a proxy there are two of each. Interim responses (RFC 9110 section 15.2) may arrive endlessly, and each of
    // them restarts undici's timeout.
    const longestMs = 2 * (this.#timeouts.connectMs + responseMs) + coarseMs;
    const late = () => new ConnectionError(`${way} did not answer within ${longestMs} ms`, true);
    using limit = new TimeLimit(longestMs, late);
    try {
      const response = await api.request.call(this.#agent(url, proxy, tls), {
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers: Object.fromEntries([...headers].map(([name, value]) => [name, asHeader(value)])),
        body: body ?? null,
        // Of the two, only the caller's signal also covers the body.
        signal: AbortSignal.any([signal, limit.signal]),
        // A proxy's own connection has undici's default of five minutes.
        headersTimeout: responseMs,
        bodyTimeout: this.#timeouts.stallMs,
      });
      ended();
      return response;
    } catch (error) {
      ended(signal.aborted ? "Cancelled" : "Unavailable");
      signal.throwIfAborted();
      throw this.#describe(error, way, responseMs);
    }
  }

  /** The body's chunks. Throws ConnectionError when the body breaks off or stalls while we wait. */
  async *body({ body }: HttpResponse, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
    try {
      yield* body;
    } catch (error) {
      signal.throwIfAborted();
      throw this.#describe(error, "the registry");
    }
  }

  /** Reads a complete body of at most `limit` bytes. Throws BodyTooLarge as soon as the limit is exceeded. */
  async readBody(response: HttpResponse, limit: number, signal: AbortSignal): Promise<Buffer> {
    const announced = Number(header(response, "content-length") ?? 0);
    if (announced > limit) {
      this.giveUp(response);
      throw new BodyTooLarge(`a body of ${announced} bytes was announced`);
    }
    const { documentMs } = this.#timeouts;
    const late = () => new ConnectionError(`a document did not arrive within ${documentMs} ms`, true);
    using time = new TimeLimit(documentMs, late);
    time.signal.addEventListener("abort", () => response.body.destroy(time.signal.reason));
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.body(response, signal)) {
      size += chunk.length;
      if (size > limit) throw new BodyTooLarge(`more than ${limit} bytes arrived`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /** Discards an unread response; a short body is drained, so that its connection can be reused. */
  discard(response: HttpResponse): void {
    response.body.dump({ limit: drainLimit }).catch(() => undefined);
  }

  /** Discards a response and closes its connection. */
  giveUp(response: HttpResponse): void {
    response.body.on("error", () => undefined).destroy();
  }

  close(): void {
    for (const agents of this.#agents.values()) {
      for (const agent of agents.values()) agent.destroy().catch(() => undefined);
    }
    this.#agents.clear();
  }

  #agent(url: URL, proxy: URL | undefined, tls: TlsSettings): Dispatcher {
    const agents = this.#agents.get(tls) ?? new Map<string, Dispatcher>();
    this.#agents.set(tls, agents);
    const known = agents.get(url.origin);
    if (known !== undefined) return known;
    if (url.protocol === "https:" || proxy?.protocol === "https:") trustSystem();
    const agent = makeAgent(this.#timeouts, proxy, tls);
    agents.set(url.origin, agent);
    return agent;
  }

  #proxyOf(url: URL): URL | undefined {
    try {
      return this.#proxyFor(url);
    } catch (error) {
      if (!(error instanceof BadProxy)) throw error;
      throw new ConnectionError(`${url.host}: ${error.message}`, false, error);
    }
  }

  #describe(error: unknown, host: string, responseMs = this.#timeouts.responseMs): Error {
    if (error instanceof ConnectionError) return error;
    const { connectMs, stallMs } = this.#timeouts;
    const late = (what: string) => new ConnectionError(`${host} ${what} ms`, true, error);
    if (error instanceof errors.ConnectTimeoutError) return late(`did not accept the connection within ${connectMs}`);
    if (error instanceof errors.HeadersTimeoutError) return late(`did not answer within ${responseMs}`);
    if (error instanceof errors.BodyTimeoutError) return late(`sent nothing for ${stallMs}`);
    if (!(error instanceof Error)) return new ConnectionError(`${host}: ${String(error)}`, true);
    const code = "code" in error ? String(error.code) : "";
    // Node wraps one error per address it tried in an AggregateError without a message.
    const text = error.message || code || error.name;
    const isCertificate = /CERT|SELF_SIGNED|^ERR_TLS|ERR_SSL|EPROTO|UNABLE_TO/.test(code);
    return new ConnectionError(`${host}: ${text}`, !permanentCodes.has(code) && !isCertificate, error);
  }
}

function makeAgent({ connectMs, responseMs, stallMs }: Timeouts, proxy: URL | undefined, tls: TlsSettings): Dispatcher {
  const { ca, ...others } = tls;
  const connect = {
    timeout: connectMs,
    // By default Node tries each address for 250 ms and never returns to it: too short after a lost packet or for a
    // distant registry.
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.ceil(connectMs / 4),
  };
  const secure = {
    ...connect,
    ...others,
    // With `ca`, Node would trust only these. The hundreds of default certificates are parsed once, not per connection.
    ...(ca && { secureContext: createSecureContext({ ...tls, ca: [...getCACertificates("default"), ...ca] }) }),
  };
  // One connection per layer: the number of layers that are fetched in parallel is limited.
  const common = { headersTimeout: responseMs, bodyTimeout: stallMs, allowH2: false };
  if (proxy === undefined) return new Agent({ ...common, connect: secure });
  return new ProxyAgent({
    ...common,
    uri: proxy.href,
    requestTls: { ...secure, allowH2: false },
    proxyTls: { ...connect, allowH2: false },
    // Tunnels are opened with `connect`, which undici's index would have added to every agent.
    clientFactory: (_, options) => Object.assign(new Agent({ ...common, ...options }), { connect: api.connect }),
    // For plain http the proxy forwards the request itself: many refuse a tunnel to port 80.
    proxyTunnel: false,
  });
}

/** The first value of a header. */
export function header(response: HttpResponse, name: string): string | undefined {
  const value = response.headers[name];
  return typeof value === "string" ? value : value?.[0];
}

function asHeader(value: string | readonly string[]): string | string[] {
  return typeof value === "string" ? value : [...value];
}

// An immediate retry does not help with these; a mirror or the kubelet's own retry may.
const permanentCodes: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH"]);

let trustsSystem = false;

/**
 * Registries may have certificates from CAs that only the system trusts, such as a company's own: Node has a built-in
 * list. Its option --use-system-ca would read the system's at every start, which takes 25 ms of processor time.
 */
function trustSystem(): void {
  if (trustsSystem) return;
  trustsSystem = true;
  setDefaultCACertificates([...getCACertificates("default"), ...getCACertificates("system")]);
}
