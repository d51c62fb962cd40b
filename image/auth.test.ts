// Credentials are sent only to the hosts that they are for.

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { credentialsFor, parseChallenges } from "./auth.ts";
import { makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { openTestStore, type TestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const nobody = { username: "", password: "", auth: "", identityToken: "", registryToken: "", serverAddress: "" };
const ann = { ...nobody, username: "ann", password: "s3cret" };
const annsHeader = `Basic ${Buffer.from("ann:s3cret").toString("base64")}`;
const layer = makeLayer(makeTar([{ name: "x", content: "x" }]));
const image = makeImage({ layers: [layer] });

test("reads challenges of all shapes", () => {
  const challenges = parseChallenges([
    'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"',
    'Basic realm="a \\"quoted\\", comma", Negotiate, Digest nonce=abc',
    "",
  ]);
  expect(challenges.map(({ scheme, parameters }) => [scheme, ...parameters])).toEqual([
    ["bearer", ["realm", "https://auth.example/token"], ["service", "reg"], ["scope", "repository:a/b:pull,push"]],
    ["basic", ["realm", 'a "quoted", comma']],
    ["negotiate"],
    ["digest", ["nonce", "abc"]],
  ]);
});

test("selects the credentials for the registry", () => {
  expect(credentialsFor(undefined, "docker.io")).toBeUndefined();
  expect(credentialsFor(nobody, "docker.io")).toBeUndefined();
  const hub = { ...ann, serverAddress: "https://index.docker.io/v1/" };
  expect(credentialsFor(hub, "docker.io")).toMatchObject({ username: "ann" });
  expect(credentialsFor(hub, "quay.io")).toBeUndefined();
  const padded = { ...nobody, auth: Buffer.from("ann:a:b\0\0").toString("base64") };
  expect(credentialsFor(padded, "quay.io")).toEqual({ kind: "password", username: "ann", password: "a:b" });
  expect(credentialsFor({ ...nobody, auth: "%%%" }, "quay.io")).toBeUndefined();
  expect(credentialsFor({ ...nobody, identityToken: "t" }, "quay.io")).toEqual({ kind: "identity-token", token: "t" });
});

describe("with a token service", () => {
  let it: TestStore;
  const running: WrongRegistry[] = [];

  beforeEach(async () => {
    it = await openTestStore();
  });
  afterEach(async () => {
    await it.dispose();
    for (const registry of running.splice(0)) await registry.stop();
  });

  async function start(intercept: Interception): Promise<WrongRegistry> {
    const registry = await startWrongRegistry(intercept);
    running.push(registry);
    registry.add(image, "1");
    return registry;
  }

  /** A registry that requires one of these tokens, and names the realm. */
  function guarded(realm: () => string, tokens: ReadonlySet<string>): Interception {
    return (request, response) => {
      if (!request.url.startsWith("/v2/")) return false;
      const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
      if (tokens.has(token)) return false;
      const challenge = `Bearer realm="${realm()}",service="test",scope="repository:team/app:pull"`;
      response.writeHead(401, { "www-authenticate": challenge, "content-length": 0 }).end();
      return true;
    };
  }

  /** A token service that returns a token and counts requests. */
  function tokenService(token: () => string): Promise<WrongRegistry> {
    return start((_request, response) => {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ token: token() }));
      return true;
    });
  }

  test("fetches one token with user and password and uses it for everything", async () => {
    const service = await tokenService(() => "good");
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["good"])));
    await it.store.pull(`${registry.address}/team/app:1`, ann, never);
    expect(service.requests).toHaveLength(1);
    expect(service.requests[0]).toMatchObject({
      method: "GET",
      url: "/token?service=test&scope=repository%3Ateam%2Fapp%3Apull",
      headers: { authorization: annsHeader },
    });
    const [first, ...others] = registry.requests.map((request) => request.headers.authorization);
    expect(first).toBeUndefined();
    expect(new Set(others)).toEqual(new Set(["Bearer good"]));
  });

  test("fetches an anonymous token without credentials", async () => {
    const service = await tokenService(() => "anonymous");
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["anonymous"])));
    await it.store.pull(`${registry.address}/team/app:1`, undefined, never);
    expect(service.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("fetches a new token when the first one expires", async () => {
    const tokens = new Set(["token-1"]);
    let fetched = 0;
    const service = await tokenService(() => `token-${++fetched}`);
    const guard = guarded(() => `http://${service.address}/token`, tokens);
    const registry = await start((request, response) => {
      if (request.url.includes(layer.digest) && tokens.delete("token-1")) tokens.add("token-2");
      return guard(request, response);
    });
    expect((await it.store.pull(`${registry.address}/team/app:1`, ann, never)).id).toBe(image.id);
    expect(fetched).toBe(2);
  });

  test.each([
    { token: "good", access_token: "" },
    { token: "", access_token: "good" },
  ])("takes whichever of the token's two names has it: %j", async (answer) => {
    const service = await start((_request, response) => {
      response.writeHead(200).end(JSON.stringify(answer));
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["good"])));
    expect((await it.store.pull(`${registry.address}/team/app:1`, ann, never)).id).toBe(image.id);
  });

  test("requests each scope of a challenge: in one parameter each with GET, in a single one with POST", async () => {
    const service = await start((_request, response) => {
      response.writeHead(200).end(JSON.stringify({ token: "good" }));
      return true;
    });
    const scopes = ["repository:team/app:pull", "repository:team/base:pull"];
    const registry = await start((request, response) => {
      if (request.headers.authorization === "Bearer good") return false;
      const challenge = `Bearer realm="http://${service.address}/token",scope="${scopes.join(" ")}"`;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return true;
    });
    for (const auth of [ann, { ...nobody, identityToken: "refresh me" }]) {
      await it.store.pull(`${registry.address}/team/app:1`, auth, never);
    }
    const [got, posted] = service.requests;
    expect(new URL(got?.url ?? "", "http://x").searchParams.getAll("scope")).toEqual(scopes);
    expect(new URLSearchParams(posted?.body).getAll("scope")).toEqual([scopes.join(" ")]);
  });

  test("requests its own repository when a challenge has no scope or an empty one", async () => {
    const service = await start((_request, response) => {
      response.writeHead(200).end(JSON.stringify({ token: "good" }));
      return true;
    });
    for (const scope of ["", ',scope=""']) {
      const registry = await start((request, response) => {
        if (request.headers.authorization === "Bearer good") return false;
        const challenge = `Bearer realm="http://${service.address}/token"${scope}`;
        response.writeHead(401, { "www-authenticate": challenge }).end();
        return true;
      });
      await it.store.pull(`${registry.address}/team/app:1`, undefined, never);
      const asked = service.requests.map(({ url }) => new URL(url, "http://x").searchParams.getAll("scope"));
      expect(asked.at(-1)).toEqual(["repository:team/app:pull"]);
    }
  });

  test("exchanges an identity token by POST", async () => {
    const service = await start((_request, response) => {
      response.writeHead(200).end(JSON.stringify({ access_token: "good" }));
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["good"])));
    await it.store.pull(`${registry.address}/team/app:1`, { ...nobody, identityToken: "refresh me" }, never);
    expect(service.requests[0]?.method).toBe("POST");
    expect(new URLSearchParams(service.requests[0]?.body).get("refresh_token")).toBe("refresh me");
    expect(service.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("uses a registry token as is, and does not retry when it is rejected", async () => {
    const registry = await start(guarded(() => "http://127.0.0.1:1/", new Set(["mine"])));
    const name = `${registry.address}/team/app:1`;
    await it.store.pull(name, { ...nobody, registryToken: "mine" }, never);
    await expect(it.store.pull(name, { ...nobody, registryToken: "other" }, never)).rejects.toMatchObject({
      code: "Unauthenticated",
    });
  });

  test.each([
    ["status 401", 401, "{}"],
    ["no JSON", 200, "<html>"],
    ["a token that smuggles a header", 200, JSON.stringify({ token: "x\r\nX-Evil: 1" })],
    ["a token that is no text", 200, JSON.stringify({ token: { a: 1 } })],
    ["an endless answer", 200, `{"token": "${"x".repeat(200_000)}"}`],
  ])("a token service that answers with %s fails the pull", async (_name, status, body) => {
    const service = await start((_request, response) => {
      response.writeHead(status).end(body);
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set()));
    await expect(it.store.pull(`${registry.address}/team/app:1`, ann, never)).rejects.toMatchObject({
      code: expect.stringMatching(/^(Unauthenticated|FailedPrecondition)$/),
    });
  });

  test.each([408, 429, 500, 502])("a token request answered with status %i is retried", async (status) => {
    let asked = 0;
    const service = await start((_request, response) => {
      asked += 1;
      if (asked === 1) response.writeHead(status, { "retry-after": "1" }).end("busy");
      else response.end(JSON.stringify({ token: "good" }));
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["good"])));
    const before = performance.now();
    expect((await it.store.pull(`${registry.address}/team/app:1`, ann, never)).id).toBe(image.id);
    expect(performance.now() - before).toBeGreaterThan(990);
    expect(asked).toBe(2);
  });

  test("a permanently failing token service is not reported as wrong credentials", async () => {
    const service = await start((_request, response) => {
      response.writeHead(503, { "retry-after": "0" }).end();
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set()));
    await expect(it.store.pull(`${registry.address}/team/app:1`, ann, never)).rejects.toMatchObject({
      code: "Unknown",
      message: expect.stringMatching(
        /^RegistryUnavailable: .*the token service 127.0.0.1:\d+ answered with status 503/,
      ),
    });
    expect(service.requests).toHaveLength(3);
  });

  test.each([400, 403])("a token service that answers with status %i rejects the credentials", async (status) => {
    const service = await start((_request, response) => {
      response.writeHead(status).end();
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set()));
    await expect(it.store.pull(`${registry.address}/team/app:1`, ann, never)).rejects.toMatchObject({
      code: "Unauthenticated",
    });
    expect(service.requests).toHaveLength(1);
  });

  test("a token service may redirect within its origin, and no credential leaves it", async () => {
    const thief = await tokenService(() => "good");
    let target = "/moved";
    const service = await start((request, response) => {
      if (request.url.startsWith("/moved")) response.end(JSON.stringify({ token: "good" }));
      else response.writeHead(307, { location: target }).end();
      return true;
    });
    const registry = await start(guarded(() => `http://${service.address}/token`, new Set(["good"])));
    const name = `${registry.address}/team/app:1`;
    const refresh = { ...nobody, identityToken: "refresh me" };
    for (const auth of [ann, refresh]) expect((await it.store.pull(name, auth, never)).id).toBe(image.id);
    const [basic, posted] = service.seen("/moved");
    expect(basic?.headers.authorization).toBe(annsHeader);
    expect(posted?.body).toContain("refresh+me");
    target = `http://${thief.address}/moved`;
    for (const auth of [ann, refresh]) {
      await expect(it.store.pull(name, auth, never)).rejects.toMatchObject({
        code: "FailedPrecondition",
        message: expect.stringContaining(`redirects to ${thief.address}`),
      });
    }
    target = "/token";
    await expect(it.store.pull(name, ann, never)).rejects.toThrow(/redirects more than 5 times/);
    expect(thief.requests).toEqual([]);
  });

  test("a redirect to another host sends it no credentials, whatever its challenge", async () => {
    const thief = await start((_request, response) => {
      const realm = `Bearer realm="http://${thief.address}/token",service="thief"`;
      response.writeHead(401, { "www-authenticate": `${realm}, Basic realm="give"`, "content-length": 0 }).end();
      return true;
    });
    const registry = await start((request, response) => {
      if (request.headers.authorization !== annsHeader) {
        response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
        return true;
      }
      if (!request.url.includes("/blobs/")) return false;
      response.writeHead(307, { location: `http://${thief.address}/steal` }).end();
      return true;
    });
    await expect(it.store.pull(`${registry.address}/team/app:1`, ann, never)).rejects.toMatchObject({
      code: "Unauthenticated",
    });
    expect(thief.requests.length).toBeGreaterThan(0);
    for (const request of thief.requests) expect(request.headers.authorization).toBeUndefined();
    expect(thief.requests.length).toBeLessThan(5);
  });

  test("content of a registry with anonymous tokens is pulled through a redirect", async () => {
    const service = await tokenService(() => "anybody's");
    const behind = await start(guarded(() => `http://${service.address}/token`, new Set(["anybody's"])));
    const front = await start((request, response) => {
      response.writeHead(307, { location: `http://${behind.address}${request.url}` }).end();
      return true;
    });
    for (const auth of [undefined, ann]) {
      expect((await it.store.pull(`${front.address}/team/app:1`, auth, never)).id).toBe(image.id);
      await it.store.remove(image.id);
    }
    expect(service.requests).toHaveLength(2);
    for (const { requests } of [service, behind]) {
      for (const { headers } of requests) expect(headers.authorization ?? "Bearer anybody's").toBe("Bearer anybody's");
    }
    for (const { headers } of front.requests) expect(headers.authorization).toBeUndefined();
  });

  test("a redirect target that rejects its own tokens is tried twice", async () => {
    let given = 0;
    const service = await tokenService(() => `token-${++given}`);
    const behind = await start(guarded(() => `http://${service.address}/token`, new Set()));
    const front = await start((request, response) => {
      response.writeHead(307, { location: `http://${behind.address}${request.url}` }).end();
      return true;
    });
    await expect(it.store.pull(`${front.address}/team/app:1`, ann, never)).rejects.toMatchObject({
      code: "Unauthenticated",
    });
    expect(behind.requests).toHaveLength(2);
  });

  test("content behind a redirect is fetched, without credentials", async () => {
    const storage = await start(() => false);
    const registry = await start((request, response) => {
      if (request.headers.authorization !== annsHeader) {
        response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
        return true;
      }
      if (!request.url.includes("/blobs/")) return false;
      response.writeHead(302, { location: `http://${storage.address}${request.url}` }).end();
      return true;
    });
    expect((await it.store.pull(`${registry.address}/team/app:1`, ann, never)).id).toBe(image.id);
    expect(storage.requests).toHaveLength(2);
    for (const request of storage.requests) expect(request.headers.authorization).toBeUndefined();
  });

  test("the number of redirects is limited", async () => {
    const registry = await start((request, response) => {
      response.writeHead(302, { location: request.url }).end();
      return true;
    });
    await expect(it.store.pull(`${registry.address}/team/app:1`, ann, never)).rejects.toThrow(/more than 5 times/);
    expect(registry.requests).toHaveLength(6);
  });

  test("URLs that a manifest lists for a layer are never requested", async () => {
    const thief = await start(() => false);
    const manifest = JSON.parse(image.manifest.toString());
    manifest.layers[0].urls = [`http://${thief.address}/v2/x/blobs/${layer.digest}`];
    const registry = await start((request, response) => {
      if (!request.url.includes(layer.digest)) return false;
      response.writeHead(404).end();
      return true;
    });
    registry.addManifest("urls", Buffer.from(JSON.stringify(manifest)), image.manifestType);
    await expect(it.store.pull(`${registry.address}/team/app:urls`, ann, never)).rejects.toMatchObject({
      code: "NotFound",
    });
    expect(thief.requests).toEqual([]);
  });
});
