// keelson serve: the daemon's start, signals and stop as seen by other processes.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer as createHttpsServer } from "node:https";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, onTestFinished, test, vi } from "vitest";
import { listenOnLoopback } from "../../image/testing/listen.ts";
import { connect, failure } from "../api/testing/client.ts";
import { program, serving, useProgram } from "./testing/program.ts";

const { directory, daemonSocket, daemon } = useProgram();

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${condition} was not met within 10 s`);
    await sleep(1);
  }
}

test("serves, a second daemon refuses to start, and SIGTERM ends it and removes its socket", async () => {
  const first = daemon();
  await serving(first);
  const client = connect(daemonSocket());
  expect(await client.call("Version")).toMatchObject({ runtimeName: "keelson" });
  client.close();

  const second = daemon();
  expect(await once(second.child, "exit")).toEqual([1, null]);
  expect(second.lines.join("\n")).toContain(
    `Another Keelson daemon (process ${first.child.pid}) is using ${directory()}/root.`,
  );
  // A different root is not enough: recovery would treat the first daemon's pods as leftovers.
  const halfway = daemon("--root", join(directory(), "other"));
  expect(await once(halfway.child, "exit")).toEqual([1, null]);
  expect(halfway.lines.join("\n")).toContain(`is using ${directory()}/run.`);
  const socket = daemonSocket();
  const elsewhere = daemon("--root", join(directory(), "b"), "--state", join(directory(), "c"), "--socket", socket);
  expect(await once(elsewhere.child, "exit")).toEqual([1, null]);
  expect(elsewhere.lines.join("\n")).toContain(`A server already answers on ${daemonSocket()}.`);

  first.child.kill("SIGTERM");
  expect(await once(first.child, "exit")).toEqual([0, null]);
  await expect(access(daemonSocket())).rejects.toMatchObject({ code: "ENOENT" });
});

test("creates no world-writable files, whatever the umask: others could change its compiled code", async () => {
  // The test runner sets its own compile cache.
  vi.stubEnv("NODE_COMPILE_CACHE", undefined);
  onTestFinished(() => void vi.unstubAllEnvs());
  const before = process.umask(0);
  const running = daemon();
  process.umask(before);
  await serving(running);
  const made = await readdir(directory(), { recursive: true, withFileTypes: true });
  const paths = made.filter((entry) => !entry.isSymbolicLink()).map(({ parentPath, name }) => join(parentPath, name));
  const open = await Promise.all(paths.map(async (path) => ({ path, mode: (await stat(path)).mode & 0o002 })));
  expect(open.filter(({ mode }) => mode !== 0)).toEqual([]);
  expect(paths).toContain(join(directory(), "root/code"));
});

test("starts again at once after kill -9, despite the stale lock file and socket", async () => {
  const first = daemon();
  await serving(first);
  first.child.kill("SIGKILL");
  await once(first.child, "exit");
  await access(daemonSocket());
  await serving(daemon());
  const client = connect(daemonSocket());
  expect(await client.call("ListPodSandbox")).toEqual({ items: [] });
  client.close();
});

test("trusts the registries that the system trusts", async () => {
  const [key, cert] = [join(directory(), "key.pem"), join(directory(), "cert.pem")];
  const names = ["-subj", "/CN=keelson-test", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-nodes", "-keyout", key, "-out", cert];
  await promisify(execFile)("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-days", "2", ...names, ...files]);
  const registry = createHttpsServer({ key: await readFile(key), cert: await readFile(cert) }, (_request, response) => {
    response.writeHead(404).end();
  });
  const port = await listenOnLoopback(registry);
  await mkdir(join(directory(), "registries/_default"), { recursive: true });
  await writeFile(join(directory(), "registries/_default/hosts.toml"), `server = "https://127.0.0.1:${port}"\n`);
  const pullOf = async (certificates: string) => {
    vi.stubEnv("SSL_CERT_FILE", certificates);
    const running = daemon("--registries", join(directory(), "registries"));
    await serving(running);
    const client = connect(daemonSocket());
    const { details } = await failure(client.call("PullImage", { image: { image: "corporate.example/app:1" } }));
    client.close();
    running.child.kill("SIGTERM");
    await once(running.child, "exit");
    return details;
  };
  try {
    expect(await pullOf("/dev/null")).toContain("self-signed certificate");
    expect(await pullOf(cert)).toContain("does not exist in the registry");
  } finally {
    vi.unstubAllEnvs();
    registry.close();
  }
});

test("contacts registries through the proxy set in its environment", async () => {
  vi.stubEnv("HTTPS_PROXY", "http://127.0.0.1:1");
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  await serving(daemon());
  const client = connect(daemonSocket());
  const { details } = await failure(client.call("PullImage", { image: { image: "corporate.example/app:1" } }));
  client.close();
  expect(details).toContain("corporate.example via the proxy 127.0.0.1:1");
});

test("ends streams on SIGTERM and exits without clients having to disconnect", async () => {
  const running = daemon();
  await serving(running);
  const client = connect(daemonSocket());
  const stream = failure(
    (async () => {
      for await (const _ of client.stream("GetContainerEvents", {}, new AbortController().signal));
    })(),
  );
  await client.call("Version");
  const started = Date.now();
  running.child.kill("SIGTERM");
  expect((await stream).details).toContain("Keelson is stopping");
  expect(await once(running.child, "exit")).toEqual([0, null]);
  expect(Date.now() - started).toBeLessThan(8000);
  client.close();
});

test("reloads its configuration on SIGHUP; an invalid one leaves the old one in force", async () => {
  const file = join(directory(), "config.toml");
  await writeFile(file, '[log]\nlevel = "info"\n');
  const running = daemon("--config", file);
  await serving(running);
  const client = connect(daemonSocket());
  const reload = async (text: string, answer: string) => {
    await writeFile(file, text);
    const from = running.lines.length;
    running.child.kill("SIGHUP");
    await until(() => running.lines.slice(from).some((line) => line.includes(answer)));
  };
  await reload('[log]\nlevel = "debug"\n[streaming]\nport = 9\n', '"afterRestart":["streaming.port"]');
  const handler = '[runtime.handlers.runc]\nbinary = "/usr/bin/runc"\n';
  await reload(`[log]\nlevel = "debug"\n${handler}`, '"afterRestart":["runtime.handlers"]');
  await client.call("Version");
  await until(() => running.lines.some((line) => line.includes('"level":"debug"') && line.includes('"Version"')));
  await reload("[log\n", "is not valid TOML");
  await reload('[log]\nlevel = "loud"\n', 'sets the key log.level to \\"loud\\"');
  running.lines.length = 0;
  await client.call("Version");
  await until(() => running.lines.some((line) => line.includes('"level":"debug"') && line.includes('"Version"')));
  client.close();
});

test("survives repeated SIGHUP, SIGUSR1 and SIGUSR2", async () => {
  const running = daemon();
  await serving(running);
  for (let n = 0; n < 200; n += 1) {
    for (const signal of ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const) running.child.kill(signal);
  }
  const client = connect(daemonSocket());
  expect(await client.call("Version")).toMatchObject({ runtimeName: "keelson" });
  client.close();
  expect(running.lines.join("\n")).not.toContain("Debugger");
});

test("a missing binary is a configuration error for the default handler only", async () => {
  const file = join(directory(), "config.toml");
  const handlers = '[runtime.handlers.gone]\nbinary = "/no/such/runc"\n';
  await writeFile(file, handlers);
  const without = daemon("--config", file);
  await serving(without);
  without.child.kill("SIGTERM");
  await once(without.child, "exit");
  await writeFile(file, `[runtime]\ndefault_handler = "gone"\n${handlers}`);
  const { child, lines } = daemon("--config", file);
  expect(await once(child, "exit")).toEqual([2, null]);
  expect(lines.join("\n")).toMatch(
    /handler gone is unusable, so pods without a handler could not start: .*\/no\/such\/runc .*ENOENT/,
  );
});

test.each([
  ["streaming", "Exec, attach and port-forward cannot be served at", (port: number) => `port = ${port}`],
  ["metrics", "Metrics cannot be served at", (port: number) => `address = "127.0.0.1:${port}"`],
])("names the setting whose port is taken: %s", async (table, sentence, setting) => {
  const taken = createServer();
  onTestFinished(() => void taken.close());
  const port = await listenOnLoopback(taken);
  const file = join(directory(), "config.toml");
  await writeFile(file, `[${table}]\n${setting(port)}\n`);
  const { child, lines } = daemon("--config", file);
  expect(await once(child, "exit")).toEqual([1, null]);
  expect(lines.join("\n")).toContain(`${sentence} 127.0.0.1:${port}: listen EADDRINUSE`);
  expect(lines.join("\n")).toMatch(new RegExp(`Set ${table}\\.(port|address) to `));
});

test("SIGUSR1 opens no debugger, not even before its handler is installed", async () => {
  const child = spawn(program, ["check"]);
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, "exit");
  // Wait until the point where Node sets up its debugger; before that the signal terminates any program.
  await until(async () => {
    const [commandLine, status] = await Promise.all(
      ["cmdline", "status"].map((file) => readFile(`/proc/${child.pid}/${file}`, "utf8")),
    );
    const masks = Array.from(status?.matchAll(/^Sig(?:Blk|Ign|Cgt):\s*([0-9a-f]+)$/gm) ?? [], ([, mask]) => mask);
    return commandLine?.includes("main.ts") === true && masks.some((mask) => BigInt(`0x${mask}`) & (1n << 9n));
  });
  const insist = setInterval(() => child.kill("SIGUSR1"), 1);
  expect(await ended).toEqual([0, null]);
  clearInterval(insist);
  expect(said).toBe("");
});

test("reports an invalid configuration instead of starting", async () => {
  const { child, lines } = daemon("--log-level", "loud");
  expect(await once(child, "exit")).toEqual([2, null]);
  expect(lines.join("\n")).toContain('The command line sets the key log.level to "loud". Set it to one of debug');
});
