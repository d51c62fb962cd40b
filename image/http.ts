// One HTTP exchange with a registry, and its body, each with deadlines and bounds. No redirects, no retries here.
//
// Bounds: headers (Node's own 16 KiB), a body that is read whole (the caller's limit and `documentMs`; the stream joins
// small pieces by itself), a body that is streamed (`stallMs` between pieces; its size is the reader's to check).

import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type { TlsSettings } from "./hosts.ts";

export interface Timeouts {
  /** Milliseconds until connected, TLS included. */
  readonly connectMs: number;
  /** Milliseconds from there until the response's headers are in. */
  readonly responseMs: number;
  /** Milliseconds that a body may stand still while we wait for it. */
  readonly stallMs: number;
  /** Milliseconds for a whole small document. */
  readonly documentMs: number;
}

export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly headers: ReadonlyMap<string, string | readonly string[]>;
  readonly body?: string;
  readonly tls: TlsSettings;
  readonly signal: AbortSignal;
}

/** The connection failed or fell silent; worth another try. */
export class ConnectionError extends Error {
  /** False when a second try would only fail the same way (refused, unknown host, bad certificate). */
  readonly transient: boolean;

  constructor(message: string, transient: boolean, cause?: unknown) {
    super(message, { cause });
    this.transient = transient;
  }
}

export class BodyTooLarge extends Error {}

/** Bytes that are cheaper to read than a new connection is to make. */
const drainLimit = 64 * 1024;

/** Connections of one pull, kept alive between requests; `close` ends them. */
export class HttpConnections {
  readonly #timeouts: Timeouts;
  readonly #agents = new Map<string, http.Agent>();

  constructor(timeouts: Timeouts) {
    this.#timeouts = timeouts;
  }

  /** Sends a request and resolves with the response once its headers are in; the body is still to be read. */
  async send(request: HttpRequest): Promise<IncomingMessage> {
    request.signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const isHttps = request.url.protocol === "https:";
    const outgoing = (isHttps ? https : http).request(request.url, {
      method: request.method,
      headers: Object.fromEntries([...request.headers].map(([name, value]) => [name, asHeader(value)])),
      agent: this.#agent(request.url, request.tls),
      signal: request.signal,
    });
    const host = request.url.host;
    const give = (what: string, ms: number) =>
      setTimeout(() => outgoing.destroy(new ConnectionError(`${host} ${what} within ${ms} ms`, true)), ms);
    let deadline = give("did not take the connection", this.#timeouts.connectMs);
    outgoing.once("socket", (socket) => {
      const connected = () => {
        clearTimeout(deadline);
        deadline = give("did not answer", this.#timeouts.responseMs);
      };
      if (socket.connecting) socket.once(isHttps ? "secureConnect" : "connect", connected);
      else connected();
    });
    outgoing.once("response", resolve);
    outgoing.once("error", (error) => reject(describe(error, host)));
    outgoing.end(request.body);
    try {
      return await promise;
    } catch (error) {
      request.signal.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** The body's chunks. Throws ConnectionError when it breaks off or stands still while we wait. */
  async *body(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
    // A reader that takes its time (a disk that commits) is no stall, so only our own waiting counts.
    let isWaiting = true;
    const timer = setInterval(() => {
      if (isWaiting) {
        response.destroy(new ConnectionError(`the registry sent nothing for ${this.#timeouts.stallMs} ms`, true));
      }
    }, this.#timeouts.stallMs);
    try {
      for await (const chunk of response) {
        isWaiting = false;
        yield chunk;
        isWaiting = true;
        timer.refresh();
      }
    } catch (error) {
      signal.throwIfAborted();
      throw describe(error, "the registry");
    } finally {
      clearInterval(timer);
      response.destroy();
    }
  }

  /** A whole body of at most `limit` bytes. Throws BodyTooLarge as soon as that is clear. */
  async readBody(response: IncomingMessage, limit: number, signal: AbortSignal): Promise<Buffer> {
    const announced = Number(response.headers["content-length"] ?? 0);
    if (announced > limit) {
      response.destroy();
      throw new BodyTooLarge(`a body of ${announced} bytes was announced`);
    }
    const { documentMs } = this.#timeouts;
    const late = () => response.destroy(new ConnectionError(`a document did not come within ${documentMs} ms`, true));
    const timer = setTimeout(late, documentMs);
    try {
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of this.body(response, signal)) {
        size += chunk.length;
        if (size > limit) throw new BodyTooLarge(`more than ${limit} bytes came`);
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends a response nobody reads; a short body is drained, so that its connection serves the next request. */
  discard(response: IncomingMessage): void {
    if (Number(response.headers["content-length"] ?? Number.NaN) <= drainLimit) response.resume();
    else response.destroy();
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
    this.#agents.clear();
  }

  #agent(url: URL, tls: TlsSettings): http.Agent {
    const known = this.#agents.get(url.origin);
    if (known !== undefined) return known;
    const { ca, ...others } = tls;
    const agent =
      url.protocol === "https:"
        ? new https.Agent({ keepAlive: true, ...others, ...(ca && { ca: [...ca] }) })
        : new http.Agent({ keepAlive: true });
    this.#agents.set(url.origin, agent);
    return agent;
  }
}

function asHeader(value: string | readonly string[]): string | string[] {
  return typeof value === "string" ? value : [...value];
}

// What a second try cannot mend at once; a mirror or the kubelet's own retry can.
const lasting: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH"]);

function describe(error: unknown, host: string): Error {
  if (error instanceof ConnectionError) return error;
  if (!(error instanceof Error)) return new ConnectionError(`${host}: ${String(error)}`, true);
  const code = "code" in error ? String(error.code) : "";
  // Node wraps one error per tried address in an AggregateError without a message.
  const text = error.message || code || error.name;
  const isCertificate = /CERT|SELF_SIGNED|^ERR_TLS|ERR_SSL|EPROTO|UNABLE_TO/.test(code);
  return new ConnectionError(`${host}: ${text}`, !lasting.has(code) && !isCertificate, error);
}
