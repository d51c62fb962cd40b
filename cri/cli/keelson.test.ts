// The program's command line: what it prints, what it rejects, and what it reports when the socket does not answer.

import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { listenOnLoopback } from "../../image/testing/listen.ts";
import { serveEdge } from "../api/testing/edge.ts";
import { memoryPods } from "../api/testing/memory-pods.ts";
import { loadImage } from "./daemon-client.ts";
import { pages } from "./help.ts";
import { program, run, serving, useProgram } from "./testing/program.ts";

const { directory, daemonSocket, daemon } = useProgram();

describe("the command line", () => {
  test("prints its version and its manual, a page for each command", async () => {
    const manifest = JSON.parse(await readFile(join(import.meta.dirname, "../../package.json"), "utf8"));
    expect((await run("version")).stdout).toMatch(new RegExp(`^keelson ${manifest.version} \\(Node.js 2[4-9]`));
    expect((await run()).stdout).toContain("Usage:");
    for (const [command, page] of pages) {
      expect(await run(command, "--help")).toMatchObject({ code: 0, stdout: page });
      expect(page).toContain("Usage:\n");
    }
  });

  test("loads only the packages it needs before it has parsed its command", async () => {
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
    [["serv"], "Unknown command 'serv'. See keelson --help."],
    [["serve", "--sockt", "/x"], "Unknown option '--sockt'. See keelson --help."],
    [["serve", "--root", "--state", "/x"], "Option '--root' argument is ambiguous. See keelson --help."],
    [["check", "--down"], "Unknown option '--down' for keelson check. See keelson check --help."],
    [["config", "--output", "json"], "Unknown option '--output' for keelson config. See keelson config --help."],
    [["status", "--log-level", "debug"], "Unknown option '--log-level' for keelson status. See keelson status --help."],
    [["serve", "now"], "Unexpected argument 'now' for keelson serve. See keelson serve --help."],
    [["config", "--default", "now"], "Unexpected argument 'now' for keelson config. See keelson config --help."],
    [
      ["image", "save"],
      "keelson image needs one of: ls, pull REFERENCE, load FILE, save FILE REFERENCE…, tag REFERENCE NAME, rm REFERENCE… See keelson image --help.",
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
  ])("exits 2 for an invalid command line or configuration: %j", async (args, sentence) => {
    const { code, stdout, stderr } = await run(...args);
    expect({ code, stdout, sentence: stderr.replace(/^keelson: (.*)\n$/, "$1") }).toEqual({
      code: 2,
      stdout: "",
      sentence,
    });
  });

  test("a user without access to the socket gets a permission error, not that nothing listens", async () => {
    await using edge = await serveEdge(memoryPods());
    process.seteuid?.(65_534);
    try {
      await expect(loadImage(edge.socket, "/etc/passwd", new AbortController().signal)).rejects.toMatchObject({
        code: "PermissionDenied",
        message: `The socket ${edge.socket} is accessible to root only, not to uid 65534. Run the command with sudo.`,
      });
    } finally {
      process.seteuid?.(0);
    }
  });

  test("reports that no daemon is running", async () => {
    const { code, stderr } = await run("image", "load", program, "--socket", join(directory(), "none.sock"));
    expect(code).toBe(1);
    expect(stderr).toContain(`No Keelson daemon answers on ${directory()}/none.sock: nothing listens there. Start it`);
  });
});

describe("a socket without an answer from the daemon", () => {
  test("reports that another program listens", async () => {
    const socket = join(directory(), "other.sock");
    const other = createServer((connection) => connection.on("error", () => undefined).destroy()).listen(socket);
    onTestFinished(() => void other.close());
    const { code, stderr } = await run("status", "--socket", socket);
    expect(code).toBe(1);
    expect(stderr).toContain(`No Keelson daemon answers on ${socket}: another program listens there. Start it`);
  });

  test("reports that a server without the call is older or another CRI server", async () => {
    const socket = join(directory(), "older.sock");
    const older = new Server();
    await promisify(older.bindAsync.bind(older))(`unix:${socket}`, ServerCredentials.createInsecure());
    onTestFinished(() => older.forceShutdown());
    const { code, stderr } = await run("status", "--socket", socket);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `keelson: The server at ${socket} is an older Keelson or another CRI server: The server does not implement the method /keelson.v1.Node/NodeStatus. Restart Keelson after an upgrade, or name its socket (--socket).\n`,
    });
  });

  test("reports that a hanging daemon has not answered", { timeout: 30_000 }, async () => {
    const running = daemon();
    await serving(running);
    running.child.kill("SIGSTOP");
    onTestFinished(() => void running.child.kill("SIGKILL"));
    const socket = daemonSocket();
    const { code, stderr } = await run("status", "--socket", socket);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`The Keelson daemon at ${socket} has not answered for 10 s. Check its log`),
    });
  });

  test("reports that a daemon killed before it answered has exited", async () => {
    const running = daemon();
    await serving(running);
    const silent = createServer(() => undefined);
    onTestFinished(() => void silent.close());
    const connected = once(silent, "connection");
    const port = await listenOnLoopback(silent);
    const socket = daemonSocket();
    const pulling = run("image", "pull", `127.0.0.1:${port}/slow:1`, "--socket", socket);
    await connected;
    running.child.kill("SIGKILL");
    const { code, stderr } = await pulling;
    expect(code).toBe(1);
    expect(stderr).toContain(`The Keelson daemon at ${socket} exited before it answered. Retry`);
  });
});
