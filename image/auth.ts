// Authentication to a registry: basic credentials and bearer tokens
// (distribution's "Token Authentication Specification" and RFC 7235).
//
// Bounds: challenge headers (`challengeLimit`; Node accepts 16 KiB for all headers), parsed in linear time; a token
// response (`tokenAnswerLimit`) and the redirects to it (`redirectLimit`).

import { MalformedJson, readJsonObject } from "../native/index.ts";
import { imageErrors } from "./errors.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { type Endpoint, noTls } from "./hosts.ts";
import {
  BodyTooLarge,
  ConnectionError,
  type HttpConnections,
  type HttpRequest,
  type HttpResponse,
  header,
} from "./http.ts";
import { askedDelay } from "./retry.ts";
import type { RegistryAuth } from "./types.ts";

export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token, which is exchanged at the token service. */
  | { readonly kind: "identity-token"; readonly token: string }
  /** A bearer token that is used as is. */
  | { readonly kind: "registry-token"; readonly token: string };

/** Characters of one WWW-Authenticate header. */
const challengeLimit = 8 * 1024;
/** Bytes. A token response is small; a larger one is an attack. */
const tokenAnswerLimit = 128 * 1024;
const redirectLimit = 5;
/** Statuses of a token service that rejects the credentials. */
const noToken: ReadonlySet<number> = new Set([400, 401, 403]);

/** The token service failed for a reason other than the credentials. */
export class TokenServiceTrouble extends ConnectionError {
  /** Milliseconds to wait by its Retry-After. */
  readonly askedMs: number;

  constructor(message: string, askedMs: number) {
    super(message, true);
    this.askedMs = askedMs;
  }
}

interface TokenRequest {
  readonly realm: URL;
  readonly headers: HttpRequest["headers"];
  /** Body of a POST; a GET when absent. */
  readonly body?: string;
  readonly signal: AbortSignal;
}

/** The credentials of a pull request that apply to `registry`; undefined for an anonymous pull. */
export function credentialsFor(auth: RegistryAuth | undefined, registry: string): Credentials | undefined {
  if (auth === undefined) return undefined;
  if (auth.serverAddress !== "" && hostOf(auth.serverAddress) !== hostOf(registry)) return undefined;
  if (auth.username !== "") return { kind: "password", username: auth.username, password: auth.password };
  if (auth.identityToken !== "") return { kind: "identity-token", token: auth.identityToken };
  if (auth.registryToken !== "") return { kind: "registry-token", token: auth.registryToken };
  if (auth.auth === "") return undefined;
  const text = Buffer.from(auth.auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 0) return undefined;
  // Docker's clients may pad the password with NULs.
  return { kind: "password", username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

/** Answers the authentication challenges of one endpoint for one repository, and caches the answer. */
export class Authorizer {
  readonly #endpoint: Endpoint;
  readonly #credentials: Credentials | undefined;
  readonly #repository: string;
  readonly #connections: HttpConnections;
  #header: string | undefined;
  #asking: Promise<string | undefined> | undefined;

  /** Credentials are sent only to the registry's own server; a mirror has its own in hosts.toml (`header`). */
  constructor(
    endpoint: Endpoint,
    credentials: Credentials | undefined,
    repository: string,
    connections: HttpConnections,
  ) {
    this.#endpoint = endpoint;
    this.#credentials = endpoint.isServer ? credentials : undefined;
    this.#repository = repository;
    this.#connections = connections;
    if (this.#credentials?.kind === "registry-token") this.#header = `Bearer ${this.#credentials.token}`;
  }

  /** The Authorization header to send, if there is one yet. */
  get header(): string | undefined {
    return this.#header;
  }

  /**
   * Handles a 401 to a request that was sent with the header `sent`; false when there is no better header to send.
   * Requests that are refused concurrently share one token request.
   */
  async answer(response: HttpResponse, sent: string | undefined, signal: AbortSignal): Promise<boolean> {
    if (this.#header !== sent) return this.#header !== undefined;
    this.#asking ??= this.#ask(parseChallenges([response.headers["www-authenticate"] ?? []].flat()), signal).finally(
      () => {
        this.#asking = undefined;
      },
    );
    const header = await this.#asking;
    this.#header = header;
    return header !== undefined && header !== sent;
  }

  async #ask(challenges: readonly Challenge[], signal: AbortSignal): Promise<string | undefined> {
    if (this.#credentials?.kind === "registry-token") return undefined;
    const bearer = challenges.find((challenge) => challenge.scheme === "bearer");
    if (bearer !== undefined) return this.#fetchToken(bearer, signal);
    const basic = challenges.some((challenge) => challenge.scheme === "basic");
    return basic && this.#credentials?.kind === "password" ? basicHeader(this.#credentials) : undefined;
  }

  async #fetchToken(challenge: Challenge, signal: AbortSignal): Promise<string | undefined> {
    const realm = URL.parse(challenge.parameters.get("realm") ?? "");
    if (realm === null) return undefined;
    const isSecure = realm.protocol === "https:";
    if (!isSecure && !(realm.protocol === "http:" && this.#endpoint.base.startsWith("http://"))) {
      throw imageErrors.unsafeCredentials({ host: this.#endpoint.host, realm: `${realm.protocol}//${realm.host}` });
    }
    const service = challenge.parameters.get("service");
    const fields = new URLSearchParams(service === undefined ? {} : { service });
    const scope = challenge.parameters.get("scope") || `repository:${this.#repository}:pull`;
    // A mirror's credentials are part of its configured headers.
    const headers = new Map<string, string | readonly string[]>([
      ["accept", "application/json"],
      ["user-agent", "keelson"],
      ...this.#endpoint.headers,
    ]);
    if (this.#credentials?.kind === "identity-token") {
      fields.set("scope", scope);
      fields.set("grant_type", "refresh_token");
      fields.set("refresh_token", this.#credentials.token);
      fields.set("client_id", "keelson");
      headers.set("content-type", "application/x-www-form-urlencoded");
      return this.#readToken(await this.#askService({ realm, headers, body: fields.toString(), signal }), signal);
    }
    if (this.#credentials?.kind === "password") headers.set("authorization", basicHeader(this.#credentials));
    for (const each of scope.split(" ")) fields.append("scope", each);
    for (const [name, value] of fields) realm.searchParams.append(name, value);
    return this.#readToken(await this.#askService({ realm, headers, signal }), signal);
  }

  /** Resolves with a 200, or with a response that means that there is no token. */
  async #askService(request: TokenRequest): Promise<HttpResponse> {
    const { host, response } = await this.#followed(request);
    const status = response.statusCode;
    if (status === 200 || noToken.has(status)) return response;
    this.#connections.discard(response);
    const problem = `the token service ${host} answered with status ${status}`;
    if (status !== 408 && status !== 429 && status < 500) {
      throw new FetchFailure("refused", this.#endpoint.host, problem);
    }
    throw new TokenServiceTrouble(problem, askedDelay(header(response, "retry-after"), Date.now()));
  }

  /** Follows redirects within an origin and from https to https. Credentials stay with the realm's own origin. */
  async #followed({ realm, headers, body, signal }: TokenRequest) {
    const secrets = new Set(["authorization", ...this.#endpoint.headers.map(([name]) => name)]);
    const publicHeaders = new Map([...headers].filter(([name]) => !secrets.has(name)));
    const own = new URL(this.#endpoint.base).origin;
    let url = realm;
    for (let redirects = 0; redirects <= redirectLimit; redirects++) {
      const response = await this.#connections.send({
        url,
        headers: url.origin === realm.origin ? headers : publicHeaders,
        ...(body === undefined ? { method: "GET" } : { method: "POST", body }),
        // The host's TLS settings apply only to a token service on the same host.
        tls: url.origin === own ? this.#endpoint.tls : noTls,
        signal,
      });
      const status = response.statusCode;
      if (status < 300 || status >= 400) return { host: url.host, response };
      this.#connections.discard(response);
      const target = URL.parse(header(response, "location") ?? "", url.href);
      // A posted body contains a credential.
      const mayLeave = body === undefined && url.protocol === "https:" && target?.protocol === "https:";
      if (target === null || (target.origin !== url.origin && !mayLeave)) {
        const problem = `the token service ${url.host} redirects to ${target?.host || "an invalid location"} (status ${status})`;
        throw new FetchFailure("refused", this.#endpoint.host, problem);
      }
      url = target;
    }
    const problem = `the token service ${realm.host} redirects more than ${redirectLimit} times`;
    throw new FetchFailure("refused", this.#endpoint.host, problem);
  }

  async #readToken(response: HttpResponse, signal: AbortSignal): Promise<string | undefined> {
    if (response.statusCode !== 200) {
      this.#connections.discard(response);
      return undefined;
    }
    try {
      const answer = readJsonObject(await this.#connections.readBody(response, tokenAnswerLimit, signal));
      const token = answer.string("token") || answer.string("access_token") || "";
      // A token is opaque, but it must not inject other headers.
      return /^[\x21-\x7e]+$/.test(token) ? `Bearer ${token}` : undefined;
    } catch (error) {
      if (error instanceof MalformedJson || error instanceof BodyTooLarge) {
        const object = `The token response of ${this.#endpoint.host}`;
        throw imageErrors.malformed({ object, problem: error.message }, error);
      }
      throw error;
    }
  }
}

interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Parses WWW-Authenticate headers (RFC 7235 section 4.1); unparsable parts are skipped. */
export function parseChallenges(headers: readonly string[]): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  // The separators match in only one way: an alternative would make the regular expression backtrack at every blank.
  const piece = /[\s,]*(?:([\w.-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))|([\w-]+)(?=\s|,|$))/y;
  for (const header of headers) {
    if (header.length > challengeLimit) continue;
    piece.lastIndex = 0;
    for (let match = piece.exec(header); match !== null; match = piece.exec(header)) {
      const [, name, quoted, plain, scheme] = match;
      if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
      else if (name !== undefined) {
        const value = quoted?.replaceAll(/\\(.)/g, "$1") ?? plain ?? "";
        challenges.at(-1)?.parameters.set(name.toLowerCase(), value);
      }
    }
  }
  return challenges;
}

function basicHeader(credentials: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
}

/** The host of a server address as clients write it: `https://index.docker.io/v1/` is docker.io. */
function hostOf(address: string): string {
  const host = address
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/, "")
    .toLowerCase();
  return host === "index.docker.io" || host === "registry-1.docker.io" ? "docker.io" : host;
}
