// The program itself: its command line, and the daemon's start and stop as other processes see them.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer as createHttpsServer } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { connect, failure } from "../api/testing/client.ts";
import { serveEdge } from "../api/testing/edge.ts";
import { memoryPods } from "../api/testing/memory-pods.ts";
import { loadImage } from "./daemon-client.ts";
import { pages } from "./help.ts";

const program = join(import.meta.dirname, "../keelson");
let directory: string;
let daemons: ChildProcess[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-program-"));
  daemons = [];
});

afterEach(async () => {
  for (const daemon of daemons) {
    if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
    daemon.kill("SIGKILL");
    await once(daemon, "exit");
  }
  await rm(directory, { recursive: true, force: true });
});

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return await promisify(execFile)(program, args).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

/** A daemon with directories of its own; its log so far is in `lines`. */
function daemon(...more: string[]) {
  const child = spawn(program, [
    "serve",
    ...["--root", join(directory, "root"), "--state", join(directory, "run"), "--cni-conf-dir", join(directory, "cni")],
    ...more,
  ]);
  daemons.push(child);
  const lines: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => lines.push(...chunk.toString().trimEnd().split("\n")));
  return { child, lines };
}

async function serving({ child, lines }: ReturnType<typeof daemon>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!lines.some((line) => line.includes('"message":"serving"'))) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`it does not serve: ${lines.join("\n")}`);
    await sleep(10);
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${condition} did not come true in 10 s`);
    await sleep(1);
  }
}

describe("the command line", () => {
  test("says its version and its manual, a page for each command", async () => {
    const manifest = JSON.parse(await readFile(join(import.meta.dirname, "../../package.json"), "utf8"));
    expect((await run("version")).stdout).toMatch(new RegExp(`^keelson ${manifest.version} \\(Node.js 2[4-9]`));
    expect((await run()).stdout).toContain("Usage:");
    for (const [command, page] of pages) {
      expect(await run(command, "--help")).toMatchObject({ code: 0, stdout: page });
      expect(page).toContain("Usage:\n");
    }
  });

  test("reads of the packages only what it needs before it knows its command", async () => {
    const telling = `import { registerHooks } from "node:module";
      registerHooks({ resolve: (specifier, context, next) => {
        const found = next(specifier, context);
        if (found.url.includes("/node_modules/")) console.error(found.url);
        return found;
      } });`;
    const options = `--import=data:text/javascript,${encodeURIComponent(telling)}`;
    const { stderr } = await promisify(execFile)(program, ["version"], {
      env: { ...process.env, NODE_OPTIONS: options },
    });
    const packages = stderr.trimEnd().split("\n");
    expect(new Set(packages.map((url) => url.split("/node_modules/")[1]?.split("/")[0]))).toEqual(
      new Set(["smol-toml"]),
    );
  });

  test.each([
    [["serv"], "There is no command serv. See keelson --help."],
    [["serve", "--sockt", "/x"], "Unknown option '--sockt'. See keelson --help."],
    [["serve", "--root", "--state", "/x"], "Option '--root' argument is ambiguous. See keelson --help."],
    [["check", "--down"], "keelson check takes no --down. See keelson check --help."],
    [["config", "--output", "json"], "keelson config takes no --output. See keelson config --help."],
    [["status", "--log-level", "debug"], "keelson status takes no --log-level. See keelson status --help."],
    [["serve", "now"], "keelson serve takes no now. See keelson serve --help."],
    [["config", "--default", "now"], "keelson config takes no now. See keelson config --help."],
    [
      ["image", "save"],
      "keelson image takes: ls, pull REFERENCE, load FILE, save FILE REFERENCE…, tag REFERENCE NAME, rm REFERENCE… See keelson image --help.",
    ],
    [
      ["config", "--log-level", "loud"],
      'The command line sets the key log.level to "loud". Set it to one of debug, info, warn, error.',
    ],
    [["config", "--root", "relative"], 'The command line sets the key root to "relative". Set it to an absolute path.'],
    [
      ["check", "--config", "/no/such/file"],
      expect.stringContaining("The configuration file /no/such/file cannot be read"),
    ],
  ])("exits 2 for what it was told wrongly: %j", async (args, sentence) => {
    const { code, stdout, stderr } = await run(...args);
    expect({ code, stdout, sentence: stderr.replace(/^keelson: (.*)\n$/, "$1") }).toEqual({
      code: 2,
      stdout: "",
      sentence,
    });
  });

  test("a user without access to the socket is told that, not that nobody listens", async () => {
    await using edge = await serveEdge(memoryPods());
    process.seteuid?.(65_534);
    try {
      await expect(loadImage(edge.socket, "/etc/passwd", new AbortController().signal)).rejects.toMatchObject({
        code: "PermissionDenied",
        message: `The socket ${edge.socket} may not be used by uid 65534; it is root's. Run the command with sudo.`,
      });
    } finally {
      process.seteuid?.(0);
    }
  });

  test("a daemon that is not there is said to be so", async () => {
    const { code, stderr } = await run("image", "load", program, "--socket", join(directory, "none.sock"));
    expect(code).toBe(1);
    expect(stderr).toContain(`No Keelson answers on ${directory}/none.sock: nobody listens there. Start it`);
  });
});

describe("a socket that gives no answer of the daemon's", () => {
  test("where something else listens, that is said", async () => {
    const socket = join(directory, "other.sock");
    const other = createServer((connection) => connection.on("error", () => undefined).destroy()).listen(socket);
    onTestFinished(() => void other.close());
    const { code, stderr } = await run("status", "--socket", socket);
    expect(code).toBe(1);
    expect(stderr).toContain(`No Keelson answers on ${socket}: what listens there is another program. Start it`);
  });

  test("a server that does not know the call is said to be older, or another", async () => {
    const socket = join(directory, "older.sock");
    const older = new Server();
    await promisify(older.bindAsync.bind(older))(`unix:${socket}`, ServerCredentials.createInsecure());
    onTestFinished(() => older.forceShutdown());
    const { code, stderr } = await run("status", "--socket", socket);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `keelson: The server at ${socket} is an older Keelson or another CRI server: The server does not implement the method /keelson.v1.Node/NodeStatus. Restart Keelson after an upgrade, or name its socket (--socket).\n`,
    });
  });

  test("a daemon that stands still is said to", { timeout: 30_000 }, async () => {
    const running = daemon();
    await serving(running);
    running.child.kill("SIGSTOP");
    onTestFinished(() => void running.child.kill("SIGKILL"));
    const socket = join(directory, "run/keelson.sock");
    const { code, stderr } = await run("status", "--socket", socket);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`The Keelson at ${socket} has not answered for 10 s. Look at its log`),
    });
  });

  test("one that is killed before its answer is said to be gone", async () => {
    const running = daemon();
    await serving(running);
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    onTestFinished(() => void silent.close());
    const connected = once(silent, "connection");
    await once(silent, "listening");
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const socket = join(directory, "run/keelson.sock");
    const pulling = run("image", "pull", `127.0.0.1:${port}/slow:1`, "--socket", socket);
    await connected;
    running.child.kill("SIGKILL");
    const { code, stderr } = await pulling;
    expect(code).toBe(1);
    expect(stderr).toContain(`The Keelson at ${socket} ended before it had answered. Ask again`);
  });
});

describe("keelson serve", () => {
  test("serves, refuses a second one, and is gone with its socket after SIGTERM", async () => {
    const first = daemon();
    await serving(first);
    const client = connect(join(directory, "run/keelson.sock"));
    expect(await client.call("Version")).toMatchObject({ runtimeName: "keelson" });
    client.close();

    const second = daemon();
    expect(await once(second.child, "exit")).toEqual([1, null]);
    expect(second.lines.join("\n")).toContain(
      `Another Keelson (process ${first.child.pid}) works on ${directory}/root.`,
    );
    // Another root alone must not do: recovery would take the first one's pods for leftovers.
    const halfway = daemon("--root", join(directory, "other"));
    expect(await once(halfway.child, "exit")).toEqual([1, null]);
    expect(halfway.lines.join("\n")).toContain(`works on ${directory}/run.`);
    const socket = join(directory, "run/keelson.sock");
    const elsewhere = daemon("--root", join(directory, "b"), "--state", join(directory, "c"), "--socket", socket);
    expect(await once(elsewhere.child, "exit")).toEqual([1, null]);
    expect(elsewhere.lines.join("\n")).toContain(`A server already answers on ${directory}/run/keelson.sock.`);

    first.child.kill("SIGTERM");
    expect(await once(first.child, "exit")).toEqual([0, null]);
    await expect(access(join(directory, "run/keelson.sock"))).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("leaves nothing for others to write, whatever the umask: they could change its compiled code", async () => {
    // The tests' own place for it.
    vi.stubEnv("NODE_COMPILE_CACHE", undefined);
    onTestFinished(() => void vi.unstubAllEnvs());
    const before = process.umask(0);
    const running = daemon();
    process.umask(before);
    await serving(running);
    const made = await readdir(directory, { recursive: true, withFileTypes: true });
    const paths = made.filter((entry) => !entry.isSymbolicLink()).map(({ parentPath, name }) => join(parentPath, name));
    const open = await Promise.all(paths.map(async (path) => ({ path, mode: (await stat(path)).mode & 0o002 })));
    expect(open.filter(({ mode }) => mode !== 0)).toEqual([]);
    expect(paths).toContain(join(directory, "root/code"));
  });

  test("starts again at once after kill -9, lock and socket notwithstanding", async () => {
    const first = daemon();
    await serving(first);
    first.child.kill("SIGKILL");
    await once(first.child, "exit");
    await access(join(directory, "run/keelson.sock"));
    await serving(daemon());
    const client = connect(join(directory, "run/keelson.sock"));
    expect(await client.call("ListPodSandbox")).toEqual({ items: [] });
    client.close();
  });

  test("trusts the registries that the system trusts", async () => {
    const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    const names = ["-subj", "/CN=keelson-test", "-addext", "subjectAltName=IP:127.0.0.1"];
    const files = ["-nodes", "-keyout", key, "-out", cert];
    await promisify(execFile)("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-days", "2", ...names, ...files]);
    const registry = createHttpsServer(
      { key: await readFile(key), cert: await readFile(cert) },
      (_request, response) => {
        response.writeHead(404).end();
      },
    );
    registry.listen(0, "127.0.0.1");
    await once(registry, "listening");
    const address = registry.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    await mkdir(join(directory, "registries/_default"), { recursive: true });
    await writeFile(
      join(directory, "registries/_default/hosts.toml"),
      `server = "https://127.0.0.1:${address.port}"\n`,
    );
    const pullOf = async (certificates: string) => {
      vi.stubEnv("SSL_CERT_FILE", certificates);
      const running = daemon("--registries", join(directory, "registries"));
      await serving(running);
      const client = connect(join(directory, "run/keelson.sock"));
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

  test("asks registries by the proxy that its environment names", async () => {
    vi.stubEnv("HTTPS_PROXY", "http://127.0.0.1:1");
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    await serving(daemon());
    const client = connect(join(directory, "run/keelson.sock"));
    const { details } = await failure(client.call("PullImage", { image: { image: "corporate.example/app:1" } }));
    client.close();
    expect(details).toContain("corporate.example by the proxy 127.0.0.1:1");
  });

  test("ends streams at SIGTERM and exits with nobody having to hang up", async () => {
    const running = daemon();
    await serving(running);
    const client = connect(join(directory, "run/keelson.sock"));
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

  test("at SIGHUP reads its configuration again; what is wrong in it leaves the old in force", async () => {
    const file = join(directory, "config.toml");
    await writeFile(file, '[log]\nlevel = "info"\n');
    const running = daemon("--config", file);
    await serving(running);
    const client = connect(join(directory, "run/keelson.sock"));
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
    await reload("[log\n", "is not TOML");
    await reload('[log]\nlevel = "loud"\n', 'sets the key log.level to \\"loud\\"');
    running.lines.length = 0;
    await client.call("Version");
    await until(() => running.lines.some((line) => line.includes('"level":"debug"') && line.includes('"Version"')));
    client.close();
  });

  test("outlives SIGHUP, SIGUSR1 and SIGUSR2, sent again and again", async () => {
    const running = daemon();
    await serving(running);
    for (let n = 0; n < 200; n += 1) {
      for (const signal of ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const) running.child.kill(signal);
    }
    const client = connect(join(directory, "run/keelson.sock"));
    expect(await client.call("Version")).toMatchObject({ runtimeName: "keelson" });
    client.close();
    expect(running.lines.join("\n")).not.toContain("Debugger");
  });

  test("a default handler whose binary is missing is a configuration error; another's is not", async () => {
    const file = join(directory, "config.toml");
    const handlers = '[runtime.handlers.gone]\nbinary = "/no/such/runc"\n';
    await writeFile(file, handlers);
    const without = daemon("--config", file);
    await serving(without);
    without.child.kill("SIGTERM");
    await once(without.child, "exit");
    await writeFile(file, `[runtime]\ndefault_handler = "gone"\n${handlers}`);
    const { child, lines } = daemon("--config", file);
    expect(await once(child, "exit")).toEqual([2, null]);
    expect(lines.join("\n")).toMatch(/get gone, so none of them would start: .*\/no\/such\/runc .*ENOENT/);
  });

  test.each([
    ["streaming", "Exec, attach and port-forward cannot be served at", (port: number) => `port = ${port}`],
    ["metrics", "Figures cannot be served at", (port: number) => `address = "127.0.0.1:${port}"`],
  ])("names the setting whose port is taken: %s", async (table, sentence, setting) => {
    const taken = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void taken.close());
    await once(taken, "listening");
    const address = taken.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const file = join(directory, "config.toml");
    await writeFile(file, `[${table}]\n${setting(port)}\n`);
    const { child, lines } = daemon("--config", file);
    expect(await once(child, "exit")).toEqual([1, null]);
    expect(lines.join("\n")).toContain(`${sentence} 127.0.0.1:${port}: listen EADDRINUSE`);
    expect(lines.join("\n")).toMatch(new RegExp(`Set ${table}\\.(port|address) to `));
  });

  test("SIGUSR1 opens no debugger, not even before it is listened to", async () => {
    const child = spawn(program, ["check"]);
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const ended = once(child, "exit");
    // Where Node sets up its debugger; before, a signal ends any program.
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

  test("says where its configuration is wrong instead of starting", async () => {
    const { child, lines } = daemon("--log-level", "loud");
    expect(await once(child, "exit")).toEqual([2, null]);
    expect(lines.join("\n")).toContain('The command line sets the key log.level to "loud". Set it to one of debug');
  });
});
