// Pulls through the proxy from the environment, and which requests use a proxy.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { promisify } from "node:util";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { proxiesOf } from "./proxy.ts";
import type { StoreOptions } from "./store.ts";
import { bulkyLayer, makeImage } from "./testing/build-image.ts";
import { startProxy, type TestProxy, type TestProxyOptions } from "./testing/proxy.ts";
import { freePort } from "./testing/registry.ts";
import { expectCleanFailure, impatient, openTestStore, type TestStore } from "./testing/store.ts";
import { startWrongRegistry, type WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const layer = bulkyLayer(300_000);
const image = makeImage({ layers: [layer] });

async function storeIn(environment: NodeJS.ProcessEnv, options: Partial<StoreOptions> = {}): Promise<TestStore> {
  const opened = await openTestStore({ ...options, proxyFor: proxiesOf(environment) });
  onTestFinished(() => opened.dispose());
  return opened;
}

async function proxyTo(target: string, options?: TestProxyOptions): Promise<TestProxy> {
  const proxy = await startProxy(target, options);
  onTestFinished(() => proxy.stop());
  return proxy;
}

async function serving(...options: Parameters<typeof startWrongRegistry>): Promise<WrongRegistry> {
  const registry = await startWrongRegistry(...options);
  onTestFinished(() => registry.stop());
  registry.add(image, "1");
  return registry;
}

async function configure({ hostsDirectory }: TestStore, host: string, text: string): Promise<void> {
  await mkdir(path.join(hostsDirectory, host), { recursive: true });
  await writeFile(path.join(hostsDirectory, host, "hosts.toml"), text);
}

describe("a registry that is reachable only through the proxy", () => {
  let tls: { readonly cert: Buffer; readonly key: Buffer };
  beforeAll(async () => {
    const directory = await mkdtemp(path.join(tmpdir(), "keelson-proxy-"));
    const [key, cert] = [path.join(directory, "key.pem"), path.join(directory, "cert.pem")];
    const names = ["-subj", "/CN=keelson-test", "-addext", "subjectAltName=DNS:registry.invalid,IP:127.0.0.1"];
    const files = ["-nodes", "-keyout", key, "-out", cert];
    await promisify(execFile)("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-days", "2", ...names, ...files]);
    tls = { cert: await readFile(cert), key: await readFile(key) };
    return () => rm(directory, { recursive: true });
  });

  test("by https is accessed in a tunnel, with its own certificate", async () => {
    const registry = await serving(undefined, tls);
    const proxy = await proxyTo(registry.address);
    const store = await storeIn({ HTTPS_PROXY: `http://kim:p%40ss@${proxy.address}` });
    await configure(store, "registry.invalid", 'server = "https://registry.invalid"\nca = "ca.crt"\n');
    await writeFile(path.join(store.hostsDirectory, "registry.invalid/ca.crt"), tls.cert);
    expect((await store.store.pull("registry.invalid/app:1", undefined, never)).id).toBe(image.id);
    expect(new Set(proxy.asked)).toEqual(new Set(["CONNECT registry.invalid:443"]));
    expect(proxy.credentials[0]).toBe(`Basic ${Buffer.from("kim:p@ss").toString("base64")}`);
    expect(registry.requests.filter(({ headers }) => "proxy-authorization" in headers)).toEqual([]);
  });

  test("by http is requested by its full URL", async () => {
    const registry = await serving();
    const proxy = await proxyTo(registry.address);
    // Lower case, and without a scheme.
    const store = await storeIn({ http_proxy: proxy.address });
    await configure(store, "registry.invalid:5000", 'server = "http://registry.invalid:5000"\n');
    expect((await store.store.pull("registry.invalid:5000/app:1", undefined, never)).id).toBe(image.id);
    expect(proxy.asked[0]).toBe("GET http://registry.invalid:5000/v2/app/manifests/1");
    expect(registry.requests[0]?.headers.host).toBe("registry.invalid:5000");
  });

  test.each([
    ["https", 'server = "https://registry.invalid"\nskip_verify = true\n'],
    ["http", 'server = "http://registry.invalid"\n'],
  ])("by %s is accessed through a proxy that is itself accessed by https", async (scheme, hosts) => {
    const trusted = getCACertificates("default");
    setDefaultCACertificates([...trusted, tls.cert]);
    onTestFinished(() => setDefaultCACertificates(trusted));
    const registry = await serving(undefined, scheme === "https" ? tls : undefined);
    const proxy = await proxyTo(registry.address, { tls });
    const store = await storeIn({ [`${scheme}_proxy`]: `https://${proxy.address}` });
    await configure(store, "registry.invalid", hosts);
    expect((await store.store.pull("registry.invalid/app:1", undefined, never)).id).toBe(image.id);
    expect(proxy.asked).not.toEqual([]);
  });

  test("has its redirects followed through the proxy, too", async () => {
    const registry = await serving((request, response) => {
      if (!request.url.includes(layer.digest) || request.headers.host === "blobs.invalid") return false;
      response.writeHead(307, { location: `http://blobs.invalid${request.url}` }).end();
      return true;
    });
    const proxy = await proxyTo(registry.address);
    const store = await storeIn({ HTTP_PROXY: proxy.address });
    await configure(store, "registry.invalid", 'server = "http://registry.invalid"\n');
    await store.store.pull("registry.invalid/app:1", undefined, never);
    expect(proxy.asked).toContain(`GET http://blobs.invalid/v2/app/blobs/${layer.digest}`);
  });
});

describe("a proxy that", () => {
  const pulls = [
    ["https", 'server = "https://registry.invalid"\n'],
    ["http", 'server = "http://registry.invalid"\n'],
  ] as const;

  test.each(pulls)("refuses a request by %s is named in the error, without its password", async (_, hosts) => {
    const { address } = await proxyTo("127.0.0.1:1", { status: 407 });
    const url = `http://kim:secret@${address}`;
    const store = await storeIn({ HTTP_PROXY: url, HTTPS_PROXY: url });
    await configure(store, "registry.invalid", hosts);
    const failure = store.store.pull("registry.invalid/app:1", undefined, never);
    await expect(failure).rejects.toMatchObject({ code: "Unknown" });
    await expect(failure).rejects.toThrow(`registry.invalid via the proxy ${address}`);
    await expect(failure).rejects.toThrow("407");
    await expect(failure).rejects.not.toThrow("secret");
  });

  test.each(pulls)(
    "does not answer a request by %s times out",
    async (_, hosts) => {
      const { address } = await proxyTo("127.0.0.1:1", { status: 0 });
      const timeouts = { ...impatient.timeouts, responseMs: 300 };
      const store = await storeIn({ HTTP_PROXY: address, HTTPS_PROXY: address }, { timeouts });
      await configure(store, "registry.invalid", hosts);
      await expectCleanFailure(store, "registry.invalid/app:1", {
        code: "Unknown",
        message: expect.stringContaining(`registry.invalid via the proxy ${address} did not answer within 300 ms`),
      });
    },
    30_000,
  );

  test.each(pulls)("refuses the connection for a request by %s is named in the error", async (_, hosts) => {
    const address = `127.0.0.1:${await freePort()}`;
    const store = await storeIn({ HTTP_PROXY: address, HTTPS_PROXY: address });
    await configure(store, "registry.invalid", hosts);
    await expectCleanFailure(store, "registry.invalid/app:1", {
      code: "Unknown",
      message: expect.stringMatching(`via the proxy ${address}: .*ECONNREFUSED`),
    });
  });

  test.each([
    ["is no URL", "http://[", "is not a URL"],
    ["speaks SOCKS", "socks5://kim:secret@127.0.0.1:1080", "kind socks5:"],
    ["has a password with a %", "http://kim:100%secret@127.0.0.1:1", "%25"],
  ])("%s fails the pulls that it applies to, and no others", async (_, value, problem) => {
    const registry = await serving();
    const store = await storeIn({ HTTP_PROXY: value });
    await configure(store, "registry.invalid", 'server = "http://registry.invalid"\n');
    const failure = store.store.pull("registry.invalid/app:1", undefined, never);
    await expect(failure).rejects.toThrow(`HTTP_PROXY in Keelson's environment`);
    await expect(failure).rejects.toThrow(problem);
    await expect(failure).rejects.not.toThrow("secret");
    expect((await store.store.pull(`${registry.address}/app:1`, undefined, never)).id).toBe(image.id);
  });
});

describe("which requests use a proxy", () => {
  test.each([
    ["https://a.example/", { HTTPS_PROXY: "p:1" }, "http://p:1/"],
    ["https://a.example/", { HTTP_PROXY: "p:1" }, undefined],
    ["http://a.example/", { HTTPS_PROXY: "p:1" }, undefined],
    ["http://a.example/", { HTTP_PROXY: "https://p:1", http_proxy: "q:1" }, "https://p:1/"],
    ["http://a.example/", { HTTP_PROXY: "", http_proxy: "q:1" }, "http://q:1/"],
    ["http://localhost:5000/", { HTTP_PROXY: "p:1" }, undefined],
    ["http://127.1.2.3/", { HTTP_PROXY: "p:1" }, undefined],
    ["http://[::1]/", { HTTP_PROXY: "p:1" }, undefined],
  ])("%s with %o: %s", (url, environment, proxy) => {
    expect(proxiesOf(environment)(new URL(url))?.href).toBe(proxy);
  });

  test.each([
    ["a.example", "http://a.example/", true],
    ["a.example", "http://A.Example./", true],
    ["a.example", "http://b.a.example/", true],
    ["a.example", "http://ba.example/", false],
    [".a.example", "http://a.example/", false],
    [".a.example", "http://b.a.example/", true],
    ["*.a.example", "http://a.example/", false],
    ["*.a.example", "http://b.a.example/", true],
    ["a.example:5000", "http://a.example:5000/", true],
    ["a.example:5000", "http://a.example/", false],
    ["a.example:443", "https://a.example/", true],
    ["x, A.EXAMPLE ,y", "http://a.example/", true],
    ["*", "http://a.example/", true],
    ["10.0.0.0/8", "http://10.1.2.3:5000/", true],
    ["10.0.0.0/8", "http://11.1.2.3/", false],
    ["10.0.0.1", "http://10.0.0.1/", true],
    ["10.0.0.1", "http://10.0.0.10/", false],
    ["10.0.0.1:5000", "http://10.0.0.1:5000/", true],
    ["10.0.0.1:5000", "http://10.0.0.1/", false],
    ["fd00::/8", "http://[fd00::1]:5000/", true],
    ["fd00::1", "http://[fd00::1]/", true],
    ["[fd00::1]:5000", "http://[fd00::1]:5000/", true],
    ["[fd00::1]:5000", "http://[fd00::1]/", false],
    ["10.0.0.0/99", "http://10.0.0.1/", false],
    ["", "http://a.example/", false],
    [",", "http://a.example/", false],
    [":80", "http://a.example/", false],
    [".", "http://a.example/", false],
  ])("NO_PROXY=%s sends %s directly: %s", (exceptions, url, goesDirectly) => {
    const environment = { HTTP_PROXY: "p:1", HTTPS_PROXY: "p:1", NO_PROXY: exceptions };
    expect(proxiesOf(environment)(new URL(url)) === undefined).toBe(goesDirectly);
  });
});
