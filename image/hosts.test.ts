// A registry's endpoints by hosts.toml and the certificates next to it. For pulls from them see mirrors.test.ts.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadEndpoints } from "./hosts.ts";

describe("endpoints", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "keelson-hosts-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  async function write(host: string, text: string): Promise<void> {
    await mkdir(path.join(directory, host), { recursive: true });
    await writeFile(path.join(directory, host, "hosts.toml"), text);
  }

  test.each([
    ["docker.io", "https://registry-1.docker.io/v2"],
    ["quay.io", "https://quay.io/v2"],
    ["reg.example:5000", "https://reg.example:5000/v2"],
    ["localhost", "http://localhost/v2"],
    ["localhost:5000", "http://localhost:5000/v2"],
    ["127.0.0.1:5000", "http://127.0.0.1:5000/v2"],
    ["127.9.9.9:5000", "http://127.9.9.9:5000/v2"],
    ["[::1]:5000", "http://[::1]:5000/v2"],
    ["localhost:443", "https://localhost/v2"],
    ["127.evil.example", "https://127.evil.example/v2"],
    ["10.0.0.1:5000", "https://10.0.0.1:5000/v2"],
  ])("of %s without a file", async (registry, base) => {
    const endpoints = await loadEndpoints(directory, registry);
    expect(endpoints).toMatchObject([{ base, isServer: true, canPull: true, canResolve: true }]);
  });

  test("are the mirrors in the file's order, then the server", async () => {
    await writeFile(path.join(directory, "ca.pem"), "a certificate");
    await write(
      "docker.io",
      `server = "https://registry-1.docker.io"
       [host."http://mirror-b:5000"]
         capabilities = ["pull"]
       [host."https://mirror-a/prefix"]
         ca = "../ca.pem"
         skip_verify = true
         override_path = true
         [host."https://mirror-a/prefix".header]
           x-one = "1"
           x-many = ["2", "3"]
       [host."mirror-c"]`,
    );
    expect(await loadEndpoints(directory, "docker.io")).toEqual([
      expect.objectContaining({ base: "http://mirror-b:5000/v2", canResolve: false, canPull: true, isServer: false }),
      expect.objectContaining({
        base: "https://mirror-a/prefix",
        canResolve: true,
        tls: { ca: [Buffer.from("a certificate")], rejectUnauthorized: false },
        headers: [
          ["x-one", ["1"]],
          ["x-many", ["2", "3"]],
        ],
      }),
      expect.objectContaining({ base: "https://mirror-c/v2" }),
      expect.objectContaining({ base: "https://registry-1.docker.io/v2", isServer: true }),
    ]);
  });

  test("come from the directory with the port, else the one without, else _default", async () => {
    const find = async (registry: string) => (await loadEndpoints(directory, registry))[0]?.host;
    await write("_default", '[host."http://default"]');
    expect(await find("reg.io:5000")).toBe("default");
    await write("reg.io:5000", '[host."http://plain"]');
    expect(await find("reg.io:5000")).toBe("plain");
    await write("reg.io_5000_", '[host."http://port"]');
    expect(await find("reg.io:5000")).toBe("port");
    expect((await loadEndpoints(directory, "other.io")).at(-1)?.base).toBe("https://other.io/v2");
  });

  test("are Docker Hub's own for a server named docker.io, as in containerd's first example", async () => {
    const text =
      'server = "https://docker.io"\n[host."https://registry-1.docker.io"]\ncapabilities = ["pull", "resolve"]';
    await write("docker.io", text);
    expect(await loadEndpoints(directory, "docker.io")).toMatchObject([
      { base: "https://registry-1.docker.io/v2", isServer: true },
    ]);
  });

  test("are tried with TLS first when an http address has TLS settings, unless its port is 80", async () => {
    await write(
      "reg.io",
      '[host."http://10.0.0.1:5000"]\nskip_verify = true\n[host."http://10.0.0.2"]\nskip_verify = true',
    );
    expect(await loadEndpoints(directory, "reg.io")).toMatchObject([
      { base: "https://10.0.0.1:5000/v2", tls: { rejectUnauthorized: false } },
      { base: "http://10.0.0.1:5000/v2" },
      { base: "http://10.0.0.2/v2" },
      { base: "https://reg.io/v2", isServer: true },
    ]);
  });

  test("have the certificates in a directory without hosts.toml, by Docker's file names", async () => {
    await mkdir(path.join(directory, "reg.io_5000_"));
    for (const name of ["a.crt", "b.crt", "client.cert", "client.key", "other.txt"]) {
      await writeFile(path.join(directory, "reg.io_5000_", name), name);
    }
    const [ca, cert, key] = [
      [Buffer.from("a.crt"), Buffer.from("b.crt")],
      Buffer.from("client.cert"),
      Buffer.from("client.key"),
    ];
    expect(await loadEndpoints(directory, "reg.io:5000")).toMatchObject([
      { base: "https://reg.io:5000/v2", isServer: true, tls: { ca, cert, key } },
    ]);
  });

  test("use one file for certificate and key when the pair's second name is empty", async () => {
    await write("reg.io", 'client = [["client.pem", ""]]');
    await writeFile(path.join(directory, "reg.io/client.pem"), "both");
    const both = Buffer.from("both");
    expect(await loadEndpoints(directory, "reg.io")).toMatchObject([{ tls: { cert: both, key: both } }]);
  });

  test.each(["hosts.toml", "ca.crt", "named.pem"])("are refused, not waited for, if %s is a FIFO", async (name) => {
    await write("reg.io", 'ca = "named.pem"');
    if (name === "ca.crt") await rm(path.join(directory, "reg.io/hosts.toml"));
    const fifo = path.join(directory, "reg.io", name);
    await rm(fifo, { force: true });
    execFileSync("mkfifo", [fifo]);
    await expect(loadEndpoints(directory, "reg.io")).rejects.toThrow(/cannot be read \(.*it is not a regular file\)/);
  });

  test("a section for the server's own address gives the server its settings", async () => {
    await write("reg.io", 'server = "https://reg.io"\n[host."https://reg.io"]\nskip_verify = true');
    expect(await loadEndpoints(directory, "reg.io")).toMatchObject([
      { base: "https://reg.io/v2", isServer: true, tls: { rejectUnauthorized: false } },
    ]);
  });

  test.each([
    ["invalid TOML", "server ="],
    ["a host that is not a table", 'host = "x"'],
    ["a server that is not a URL", 'server = "https://%%%"'],
    ["a missing certificate", '[host."https://a"]\nca = "missing.pem"'],
    ["a boolean given as a string", '[host."https://a"]\nskip_verify = "yes"'],
    ["capabilities that are numbers", '[host."https://a"]\ncapabilities = [1]'],
    ["a password in the URL", 'server = "https://user:pass@reg.io"'],
  ])("%s is an error that names the file", async (_name, text) => {
    await write("reg.io", text);
    await expect(loadEndpoints(directory, "reg.io")).rejects.toMatchObject({
      code: "FailedPrecondition",
      message: expect.stringContaining(path.join(directory, "reg.io/hosts.toml")),
    });
  });
});
