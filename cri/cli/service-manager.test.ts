// The daemon under a service manager (testing/service-manager.py, not systemd): states, watchdog, inherited socket.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connect } from "../api/testing/client.ts";
import { serviceManager } from "./service-manager.ts";

const program = join(import.meta.dirname, "../keelson");
const managerScript = join(import.meta.dirname, "testing/service-manager.py");

interface Managed {
  readonly child: ChildProcess;
  /** Notifications so far. */
  readonly told: Record<string, string | number>[];
  readonly log: string[];
  signal(number: number): void;
  /** Waits for a notification that has this key. */
  next(key: string): Promise<Record<string, string | number>>;
}

let directory: string;
let socket: string;
let running: Managed[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-managed-"));
  socket = join(directory, "run/keelson.sock");
  await mkdir(join(directory, "run"));
  running = [];
});

afterEach(async () => {
  for (const { child, signal } of running) {
    if (child.exitCode !== null) continue;
    const ended = once(child, "exit");
    signal(18);
    signal(9);
    await ended;
  }
  await rm(directory, { recursive: true, force: true });
});

function managed(options: { watchdogMs?: number; listensOn?: string } = {}): Managed {
  const { watchdogMs = 0, listensOn = socket } = options;
  const config = join(directory, "config.toml");
  const daemon = [program, "serve", "--config", config];
  const child = spawn("python3", [managerScript, listensOn, String(watchdogMs * 1000), ...daemon]);
  const told: Record<string, string | number>[] = [];
  const log: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => told.push(JSON.parse(line)));
  createInterface({ input: child.stderr }).on("line", (line) => log.push(line));
  const self: Managed = {
    child,
    told,
    log,
    signal: (number) => child.stdin.write(`${number}\n`),
    async next(key) {
      const from = told.length;
      const deadline = Date.now() + 20_000;
      for (;;) {
        const found = told.slice(from).find((each) => key in each);
        if (found !== undefined) return found;
        if (Date.now() > deadline) throw new Error(`no ${key} was received: ${log.join("\n")}`);
        await sleep(5);
      }
    },
  };
  running.push(self);
  return self;
}

async function configure(more = ""): Promise<void> {
  const at = (name: string) => JSON.stringify(join(directory, name));
  await writeFile(
    join(directory, "config.toml"),
    `root = ${at("root")}\nstate = ${at("run")}\n[cni]\nconf_dir = ${at("cni")}\n${more}`,
  );
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

describe("the daemon under a service manager", () => {
  test("notifies when it serves, reloads and stops, and leaves the inherited socket in place", async () => {
    await configure();
    const { child, signal, next } = managed();
    const serving = next("READY");
    // The manager creates its notification socket once it listens on this one.
    while (!(await isThere(`${socket}.notify`))) await sleep(5);
    // Connects before the daemon serves: the kernel queues the connection until it does.
    const early = connect(socket);
    const answer = early.call("Version", {});
    expect(await serving).toMatchObject({ READY: "1", STATUS: `Serving ${socket}` });
    expect(await answer).toMatchObject({ runtimeName: "keelson" });
    early.close();

    const reloading = next("RELOADING");
    const reloaded = next("READY");
    signal(1);
    expect(Number((await reloading).MONOTONIC_USEC)).toBeGreaterThan(0);
    expect(await reloaded).toMatchObject({ READY: "1", STATUS: "Configuration reloaded" });
    await configure('[runtime]\ndefault_handler = "other"\n');
    const wrong = next("READY");
    signal(1);
    expect(await wrong).toMatchObject({ STATUS: "A restart is needed for runtime.default_handler" });

    const stopping = next("STOPPING");
    signal(15);
    await stopping;
    expect(await once(child, "exit")).toEqual([0, null]);
    await access(socket);
  });

  test("a reload during startup does not report the startup as complete", async () => {
    const told: string[] = [];
    const host = {
      notifyManager: async (_: string, lines: string) => void told.push(lines.replace(/\d+/g, "N")),
      adoptListener: () => Promise.reject(new Error("none was passed")),
    };
    const manager = await serviceManager({ NOTIFY_SOCKET: "/run/notify" }, host, () => undefined);
    const reload = async () => {
      await manager.reloading();
      await manager.reloaded("Reloaded");
    };
    await reload();
    expect(told).toEqual([]);
    await manager.serving("Serving");
    await reload();
    const states = ["READY=N\nSTATUS=Serving", "RELOADING=N\nMONOTONIC_USEC=N", "READY=N\nSTATUS=Reloaded"];
    expect(told).toEqual(states);
  });

  test("feeds the watchdog only while its socket answers", async () => {
    await configure();
    const { signal, next, told } = managed({ watchdogMs: 300 });
    const { pid } = await next("READY");
    await next("WATCHDOG");
    await next("WATCHDOG");
    // Simulates a hanging event loop with SIGSTOP, during which the kernel still accepts connections.
    signal(19);
    // Notifications sent before that may still arrive.
    for (let before = -1; before !== told.length; await sleep(600)) before = told.length;
    signal(18);
    expect(await next("WATCHDOG")).toMatchObject({ pid });
  });

  test("a socket at another path than the configured one is refused with the exit status of an invalid configuration", async () => {
    await configure();
    const { child, log } = managed({ listensOn: join(directory, "run/other.sock") });
    expect(await once(child, "exit")).toEqual([2, null]);
    expect(log.join("\n")).toContain(
      `The service manager listens on ${directory}/run/other.sock, but the configured socket is`,
    );
  });
});
