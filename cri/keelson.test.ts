// The program itself: its command line, and the daemon's start and stop as other processes see them.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkKernel, checkNamespaces, checkOverlay, checkRoot, checkSelinux, checkSystemCalls } from "./check.ts";
import { pages } from "./help.ts";
import { connect, failure } from "./testing/client.ts";

const program = join(import.meta.dirname, "keelson");
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

describe("the command line", () => {
  test("says its version and its manual, a page for each command", async () => {
    const manifest = JSON.parse(await readFile(join(import.meta.dirname, "../package.json"), "utf8"));
    expect((await run("version")).stdout).toMatch(new RegExp(`^keelson ${manifest.version} \\(Node.js 2[4-9]`));
    expect((await run()).stdout).toContain("Usage:");
    for (const [command, page] of pages) {
      expect(await run(command, "--help")).toMatchObject({ code: 0, stdout: page });
      expect(page).toContain("Usage:\n");
    }
  });

  test.each([
    [["serv"], "There is no command serv. See keelson --help."],
    [["serve", "--sockt", "/x"], "Unknown option '--sockt'. See keelson --help."],
    [["serve", "now"], "keelson serve takes no now. See keelson serve --help."],
    [["image", "save"], "keelson image wants: load FILE. See keelson image --help."],
  ])("exits 2 for %j", async (args, sentence) => {
    expect(await run(...args)).toMatchObject({ code: 2, stdout: "", stderr: `keelson: ${sentence}\n` });
  });

  test("a daemon that is not there is said to be so", async () => {
    const { code, stderr } = await run("image", "load", program, "--socket", join(directory, "none.sock"));
    expect(code).toBe(1);
    expect(stderr).toContain(`No Keelson answers on ${directory}/none.sock: nobody listens there. Start it`);
  });
});

describe("keelson check", () => {
  test("finds this machine able, and a missing network worth a word", async () => {
    const { code, stdout } = await run("check", "--cni-conf-dir", join(directory, "cni"));
    expect(stdout).toMatch(/^ok +root +uid 0$/m);
    expect(stdout).toMatch(/^ok +system calls +openat2/m);
    expect(stdout).toMatch(/^warn +network .*\n +→ Install a network/m);
    expect(stdout).not.toMatch(/^fail/m);
    expect(code).toBe(0);
  });

  test("says what fails on a host that is not", () => {
    expect(checkRoot(1000)).toMatchObject({ verdict: "fail", remedy: expect.stringContaining("as root") });
    expect(checkKernel("5.4.0-200-generic")).toMatchObject({ verdict: "fail" });
    expect(checkKernel("5.11.1")).toMatchObject({ verdict: "fail" });
    expect(checkKernel("5.12.0")).toMatchObject({ verdict: "warn", remedy: expect.stringContaining("6.5") });
    expect(checkKernel("6.1.0-9-amd64")).toMatchObject({ verdict: "warn" });
    expect(checkKernel("6.5.0")).toMatchObject({ verdict: "ok" });
    expect(checkSystemCalls("0 T __x64_sys_openat2\n")).toMatchObject({ detail: expect.stringContaining("clone3") });
    expect(checkSelinux(true)).toMatchObject({ verdict: "fail", remedy: expect.stringContaining("selinux=0") });
    expect(checkOverlay("nodev\ttmpfs\n")).toMatchObject({ verdict: "fail" });
    expect(checkNamespaces(["mnt", "pid", "net", "ipc", "uts"])).toMatchObject({ verdict: "warn" });
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

  test("says where its configuration is wrong instead of starting", async () => {
    const { child, lines } = daemon("--log-level", "loud");
    expect(await once(child, "exit")).toEqual([1, null]);
    expect(lines.join("\n")).toContain('The command line sets the key log.level to "loud". Set it to one of debug');
  });
});
