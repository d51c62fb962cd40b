// Pulls from mirrors and servers configured in hosts.toml, with and without TLS, against real listeners.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import tls from "node:tls";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { freePort } from "./testing/registry.ts";
import { openTestStore, type TestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const run = promisify(execFile);

const image = makeImage({ layers: [makeLayer(makeTar([{ name: "x", content: "x" }]))] });
const auth = {
  username: "ann",
  password: "s3cret",
  auth: "",
  identityToken: "",
  registryToken: "",
  serverAddress: "",
};
let it: TestStore;
let certificates: string;
const running: WrongRegistry[] = [];

beforeAll(async () => {
  certificates = await mkdtemp(path.join(tmpdir(), "keelson-tls-"));
  const common = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const names = ["-subj", "/CN=keelson-test", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", path.join(certificates, "key.pem"), "-out", path.join(certificates, "cert.pem")];
  await run("openssl", [...common, ...names, ...files]);
});
afterAll(() => rm(certificates, { recursive: true }));
beforeEach(async () => {
  it = await openTestStore();
});
afterEach(async () => {
  await it.dispose();
  for (const registry of running.splice(0)) await registry.stop();
});

async function start(intercept?: Interception, secure = false): Promise<WrongRegistry> {
  const read = (name: string) => readFile(path.join(certificates, name));
  const keys = secure ? { cert: await read("cert.pem"), key: await read("key.pem") } : undefined;
  const registry = await startWrongRegistry(intercept, keys);
  running.push(registry);
  registry.add(image, "1");
  return registry;
}

async function configure(host: string, text: string): Promise<void> {
  const directory = path.join(it.hostsDirectory, host.replace(/:(\d+)$/, "_$1_"));
  await mkdir(directory, { recursive: true });
  await writeFile(path.join(directory, "hosts.toml"), text);
}

test("a mirror serves, and gets the registry's name and its own headers but no credentials", async () => {
  const mirror = await start();
  await configure(
    "docker.io",
    `[host."http://${mirror.address}"]\n[host."http://${mirror.address}".header]\nx-mirror = ["yes", "both"]`,
  );
  const pulled = await it.store.pull("team/app:1", auth, never);
  expect(pulled.tags).toEqual(["docker.io/team/app:1"]);
  expect(mirror.requests).toHaveLength(3);
  for (const request of mirror.requests) {
    expect(request.url).toMatch(/^\/v2\/team\/app\/.*\?ns=docker\.io$/);
    expect(request.headers).toMatchObject({ "x-mirror": "yes, both" });
    expect(request.headers.authorization).toBeUndefined();
  }
});

test("a mirror that requests credentials does not get the registry's", async () => {
  const mirror = await start((_request, response) => {
    response.writeHead(401, { "www-authenticate": 'Basic realm="give"' }).end();
    return true;
  });
  const server = await start();
  await configure("reg.example", `server = "http://${server.address}"\n[host."http://${mirror.address}"]`);
  await it.store.pull("reg.example/team/app:1", auth, never);
  expect(mirror.requests.length).toBeGreaterThan(0);
  for (const request of mirror.requests) expect(request.headers.authorization).toBeUndefined();
});

test.each(["Authorization", "authorization"])(
  "a mirror's own %s is also sent to its token service, and no further",
  async (name) => {
    const own = `Basic ${Buffer.from("robot:mirror").toString("base64")}`;
    const elsewhere = await start((_request, response) => {
      response.end(JSON.stringify({ token: "good" }));
      return true;
    });
    const mirror = await start((request, response) => {
      const { authorization } = request.headers;
      if (authorization === "Bearer good") return false;
      if (!request.url.startsWith("/token")) {
        response.writeHead(401, { "www-authenticate": `Bearer realm="http://${mirror.address}/token"` }).end();
      } else if (authorization === own) {
        response.end(JSON.stringify({ token: "good" }));
      } else response.writeHead(401).end();
      return true;
    });
    const dead = await freePort();
    const toml = (host: string) =>
      `server = "http://127.0.0.1:${dead}"\n[host."http://${host}".header]\n${name} = "${own}"`;
    await configure("reg.example", toml(mirror.address));
    expect((await it.store.pull("reg.example/app:1", auth, never)).id).toBe(image.id);
    const redirecting = await start((request, response) => {
      if (request.url.startsWith("/token")) response.writeHead(302, { location: `http://${elsewhere.address}/` }).end();
      else response.writeHead(401, { "www-authenticate": `Bearer realm="http://${redirecting.address}/token"` }).end();
      return true;
    });
    await configure("reg.example", toml(redirecting.address));
    await expect(it.store.pull("reg.example/app:2", auth, never)).rejects.toThrow("redirects to");
    expect(elsewhere.requests).toEqual([]);
  },
);

test("dead and empty mirrors are skipped, and the dead one is not retried for each layer", async () => {
  const dead = await freePort();
  const empty = await start((_request, response) => {
    response.writeHead(404).end();
    return true;
  });
  const server = await start();
  await configure(
    "reg.example",
    `server = "http://${server.address}"\n[host."http://127.0.0.1:${dead}"]\n[host."http://${empty.address}"]`,
  );
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  expect(empty.requests).toHaveLength(1);
  expect(server.requests).toHaveLength(3);
});

test("a mirror's Retry-After does not delay the next host", async () => {
  const busy = await start((_request, response) => {
    response.writeHead(503, { "retry-after": "1" }).end();
    return true;
  });
  const server = await start();
  await configure("reg.example", `server = "http://${server.address}"\n[host."http://${busy.address}"]`);
  const began = performance.now();
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  expect(performance.now() - began).toBeLessThan(900);
  expect(busy.requests).toHaveLength(1);
});

test("a mirror with a transient failure is retried, after its Retry-After, when no other host delivers", async () => {
  const times: number[] = [];
  const busy = await start((_request, response) => {
    times.push(performance.now());
    if (times.length > 1) return false;
    response.writeHead(503, { "retry-after": "1" }).end();
    return true;
  });
  const dead = await freePort();
  await configure("reg.example", `server = "http://127.0.0.1:${dead}"\n[host."http://${busy.address}"]`);
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(990);
});

test("the registry's own answer decides the error, also after it delivered content", async () => {
  const dead = await freePort();
  const layer = image.layers[0]?.digest ?? "";
  const server = await start((request, response) => {
    if (!request.url.includes(layer)) return false;
    response.writeHead(403).end();
    return true;
  });
  await configure("reg.example", `server = "http://${server.address}"\n[host."http://127.0.0.1:${dead}"]`);
  await expect(it.store.pull("reg.example/app:1", undefined, never)).rejects.toMatchObject({
    code: "PermissionDenied",
  });
});

test("a mirror that may not resolve serves digests only", async () => {
  const mirror = await start();
  const server = await start();
  await configure(
    "reg.example",
    `server = "http://${server.address}"\n[host."http://${mirror.address}"]\ncapabilities = ["pull"]`,
  );
  await it.store.pull("reg.example/app:1", undefined, never);
  expect(mirror.seen("/manifests/1")).toEqual([]);
  await it.store.pull(`reg.example/app@${image.digest}`, undefined, never);
});

test("when no host has the image, the message contains the answer of each", async () => {
  const dead = await freePort();
  const server = await start();
  await configure("reg.example", `server = "http://${server.address}"\n[host."http://127.0.0.1:${dead}"]`);
  await expect(it.store.pull("reg.example/app:none", undefined, never)).rejects.toMatchObject({
    code: "NotFound",
    message: expect.stringMatching(`127.0.0.1:${dead}.*ECONNREFUSED.*${server.address}: status 404`),
  });
});

test("an unknown certificate is refused; a configured CA or skip_verify is accepted", async () => {
  const registry = await start(undefined, true);
  const name = `${registry.address}/app:1`;
  const server = `server = "https://${registry.address}"`;
  await configure(registry.address, server);
  await expect(it.store.pull(name, undefined, never)).rejects.toMatchObject({
    message: expect.stringMatching(/^RegistryUnavailable: .*self-signed certificate/),
  });
  await configure(registry.address, `${server}\nca = "${certificates}/cert.pem"`);
  expect((await it.store.pull(name, undefined, never)).id).toBe(image.id);
  await it.store.remove(name);
  await configure(registry.address, `${server}\nskip_verify = true`);
  expect((await it.store.pull(name, undefined, never)).id).toBe(image.id);
});

test("TLS settings of one section apply to that section only", async () => {
  const registry = await start(undefined, true);
  const section = (project: string, more: string) => `[host."https://${registry.address}/${project}"]\n${more}\n`;
  const ours = section("ours", `ca = "${certificates}/cert.pem"`);
  await configure("reg.example", section("strict", "") + ours);
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  expect(registry.seen("/strict/")).toEqual([]);
});

test("a host that a mirror unsuccessfully redirected to is then tried with its own settings", async () => {
  const registry = await start(undefined, true);
  const mirror = await start((request, response) => {
    response.writeHead(307, { location: `https://${registry.address}${request.url}` }).end();
    return true;
  });
  const server = `server = "https://${registry.address}"\nskip_verify = true\n`;
  await configure("reg.example", `${server}[host."http://${mirror.address}"]`);
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  for (const { url } of registry.requests) expect(url).not.toContain("ns=");
});

test("a registry with TLS may not use a token service without TLS", async () => {
  const service = await start();
  const registry = await start((_request, response) => {
    response.writeHead(401, { "www-authenticate": `Bearer realm="http://${service.address}/token"` }).end();
    return true;
  }, true);
  await configure(registry.address, `server = "https://${registry.address}"\nskip_verify = true`);
  await expect(it.store.pull(`${registry.address}/app:1`, auth, never)).rejects.toMatchObject({
    name: "unsafeCredentials",
  });
  expect(service.requests).toEqual([]);
});

test("a CA in hosts.toml is trusted in addition to the system's", async () => {
  const trusted = tls.getCACertificates("default");
  tls.setDefaultCACertificates([await readFile(path.join(certificates, "cert.pem"), "utf8")]);
  onTestFinished(() => tls.setDefaultCACertificates(trusted));
  await writeFile(path.join(certificates, "other.pem"), tls.rootCertificates[0] ?? "");
  const registry = await start(undefined, true);
  await configure(registry.address, `server = "https://${registry.address}"\nca = "${certificates}/other.pem"`);
  expect((await it.store.pull(`${registry.address}/app:1`, undefined, never)).id).toBe(image.id);
});

test("a token service's redirects are followed to https without the credentials, and never to http", async () => {
  const trusted = tls.getCACertificates("default");
  tls.setDefaultCACertificates([await readFile(path.join(certificates, "cert.pem"), "utf8")]);
  onTestFinished(() => tls.setDefaultCACertificates(trusted));
  const service = (): Interception => (_request, response) => {
    response.end(JSON.stringify({ token: "good" }));
    return true;
  };
  const [elsewhere, plain] = [await start(service(), true), await start(service())];
  let target = `https://${elsewhere.address}/token`;
  const registry = await start((request, response) => {
    if (request.headers.authorization === "Bearer good") return false;
    if (request.url.startsWith("/token")) response.writeHead(302, { location: target }).end();
    else response.writeHead(401, { "www-authenticate": `Bearer realm="https://${registry.address}/token"` }).end();
    return true;
  }, true);
  const name = `${registry.address}/app:1`;
  await configure(registry.address, `server = "https://${registry.address}"`);
  expect((await it.store.pull(name, auth, never)).id).toBe(image.id);
  expect(registry.seen("/token")[0]?.headers.authorization).toMatch(/^Basic /);
  expect(elsewhere.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  target = `http://${plain.address}/token`;
  await expect(it.store.pull(name, auth, never)).rejects.toThrow(`redirects to ${plain.address}`);
  expect(plain.requests).toEqual([]);
});

const wrongServices: readonly (readonly [string, number, string])[] = [
  ["is in trouble", 503, ""],
  ["answers with no JSON", 200, "<html>"],
  ["is not there", 404, ""],
];
test.each(wrongServices)("a mirror whose token service %s is skipped", async (_name, status, body) => {
  const mirror = await start((request, response) => {
    const isToken = request.url.startsWith("/token");
    const challenge = { "www-authenticate": `Bearer realm="http://${mirror.address}/token"` };
    response.writeHead(isToken ? status : 401, isToken ? {} : challenge).end(isToken ? body : "");
    return true;
  });
  const server = await start();
  await configure("reg.example", `server = "http://${server.address}"\n[host."http://${mirror.address}"]`);
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  expect(mirror.seen("/token").length).toBeGreaterThan(0);
});

test("a mirror with TLS whose token service has none is skipped, and reported when no host delivers", async () => {
  const service = await start();
  const mirror = await start((_request, response) => {
    response.writeHead(401, { "www-authenticate": `Bearer realm="http://${service.address}/token"` }).end();
    return true;
  }, true);
  const server = await start();
  const text = `server = "http://${server.address}"\n[host."https://${mirror.address}"]\nskip_verify = true`;
  await configure("reg.example", text);
  expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  await expect(it.store.pull("reg.example/app:none", undefined, never)).rejects.toMatchObject({
    code: "NotFound",
    message: expect.stringMatching(`credentials unencrypted.*${server.address}: status 404`),
  });
  expect(service.requests).toEqual([]);
});

test("an http address with skip_verify is used with https or http, whichever the host supports", async () => {
  for (const isSecure of [true, false]) {
    const registry = await start(undefined, isSecure);
    await configure("reg.example", `server = "http://${registry.address}"\nskip_verify = true`);
    expect((await it.store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  }
});

test("skip_verify applies to its own host: neither content nor a token is fetched from another with an unknown certificate", async () => {
  const elsewhere = await start((request, response) => {
    if (!request.url.startsWith("/token")) return false;
    response.end(JSON.stringify({ token: "good" }));
    return true;
  }, true);
  const registry = await start((request, response) => {
    if (request.url.includes("/asks/")) {
      response.writeHead(401, { "www-authenticate": `Bearer realm="https://${elsewhere.address}/token"` }).end();
      return true;
    }
    if (!request.url.includes("/blobs/")) return false;
    response.writeHead(307, { location: `https://${elsewhere.address}${request.url}` }).end();
    return true;
  }, true);
  await configure(registry.address, `server = "https://${registry.address}"\nskip_verify = true`);
  for (const name of ["app:1", "asks/app:1"]) {
    await expect(it.store.pull(`${registry.address}/${name}`, auth, never)).rejects.toThrow("self-signed certificate");
  }
  expect(elsewhere.requests).toEqual([]);
});

test("a redirect from https to http is refused", async () => {
  const plain = await start();
  const registry = await start((request, response) => {
    response.writeHead(302, { location: `http://${plain.address}${request.url}` }).end();
    return true;
  }, true);
  await configure(registry.address, `server = "https://${registry.address}"\nskip_verify = true`);
  await expect(it.store.pull(`${registry.address}/app:1`, undefined, never)).rejects.toThrow(/from https to http/);
  expect(plain.requests).toEqual([]);
});

test("changes to the file take effect on the next pull", async () => {
  const [one, two] = [await start(), await start()];
  await configure("reg.example", `server = "http://${one.address}"`);
  await it.store.pull("reg.example/app:1", undefined, never);
  await configure("reg.example", `server = "http://${two.address}"`);
  await it.store.pull("reg.example/app:1", undefined, never);
  expect(two.requests.length).toBeGreaterThan(0);
});
