// For tests: Debian's docker-registry on loopback, with its own storage, optionally with a password.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { listenOnLoopback } from "./listen.ts";

export interface TestRegistry {
  /** `127.0.0.1:port` or `host:port`, as in image references. */
  readonly address: string;
  /** The Authorization header that pushes need; undefined without a password. */
  readonly authorization: string | undefined;
  /** Kills it and removes its storage, unless `storage` was given. */
  stop(): Promise<void>;
}

export interface TestRegistryOptions {
  /** Where it keeps its content; its own directory when absent. */
  readonly storage?: string;
  /** Address to listen on; 127.0.0.1 when absent. */
  readonly host?: string;
  /** Basic credentials that it requires. */
  readonly login?: { readonly username: string; readonly password: string };
  /** Port to listen on; a free one when absent. */
  readonly port?: number;
  /** Certificate and key files for HTTPS; plain HTTP when absent. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

const startDeadlineMs = 20_000;

/** Starts a registry and waits until it answers. */
export async function startRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(path.join(tmpdir(), "keelson-registry-"));
  const port = options.port ?? (await freePort());
  const config = path.join(directory, "config.json");
  // JSON is valid YAML.
  await writeFile(config, JSON.stringify(await configuration(directory, port, options)));
  const child = spawn("/usr/bin/docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  const stderr: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const stop = async () => {
    await end(child);
    await rm(directory, { recursive: true, force: true });
  };
  const address = `${options.host ?? "127.0.0.1"}:${port}`;
  const deadline = Date.now() + startDeadlineMs;
  while (!(await listens(port, options.host))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`docker-registry did not start: ${Buffer.concat(stderr).toString().slice(-2000)}`);
    }
    await sleep(20);
  }
  const { login } = options;
  const authorization = login && `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}`;
  return { address, authorization, stop };
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  const port = await listenOnLoopback(server);
  server.close();
  await once(server, "close");
  return port;
}

async function configuration(directory: string, port: number, options: TestRegistryOptions) {
  const auth = options.login && {
    htpasswd: { realm: "test", path: await passwordFile(directory, options.login) },
  };
  return {
    version: "0.1",
    log: { level: "error", accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: options.storage ?? path.join(directory, "data") },
      delete: { enabled: true },
    },
    http: { addr: `${options.host ?? "127.0.0.1"}:${port}`, ...(options.tls && { tls: options.tls }) },
    ...(auth && { auth }),
  };
}

/** An htpasswd file; libcrypt computes the bcrypt hash that the registry requires. */
async function passwordFile(directory: string, login: { username: string; password: string }): Promise<string> {
  const script = "print crypt($ARGV[0], q($2y$05$keelsonkeelsonkeelsonu))";
  const { stdout } = await promisify(execFile)("perl", ["-e", script, login.password]);
  const file = path.join(directory, "htpasswd");
  await writeFile(file, `${login.username}:${stdout}\n`);
  return file;
}

async function listens(port: number, host = "127.0.0.1"): Promise<boolean> {
  const socket = net.connect(port, host);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}
