// Placing the socket: nothing there, a stale socket, a live server, another kind of file.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { placeSocket } from "./socket.ts";

let directory: string;
let path: string;
const servers: Server[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-socket-"));
  path = join(directory, "k.sock");
});

afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await rm(directory, { recursive: true, force: true });
});

async function bind(at: string): Promise<void> {
  const server = createServer((socket) => socket.on("error", () => {}));
  servers.push(server);
  server.listen(at);
  await once(server, "listening");
}

test("a stale socket of a killed server is replaced", async () => {
  const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`;
  const child = spawn(process.execPath, ["-e", script]);
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  const stale = await stat(path);
  await placeSocket(path, bind);
  expect((await stat(path)).ino).not.toBe(stale.ino);
  await expect(placeSocket(path, bind)).rejects.toMatchObject({ name: "socketLive" });
});

test("a live server keeps its socket", async () => {
  await bind(path);
  const before = (await stat(path)).ino;
  await expect(placeSocket(path, bind)).rejects.toThrow(`A server already answers on ${path}. Stop that server first`);
  expect((await stat(path)).ino).toBe(before);
});

test("a suspended server with a full backlog keeps its socket", async () => {
  const listen = `listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log("up"))`;
  const child = spawn(process.execPath, ["-e", `require("node:net").createServer().${listen}`]);
  const callers: Socket[] = [];
  try {
    await once(child.stdout, "data");
    child.kill("SIGSTOP");
    let refused: unknown;
    while (refused === undefined && callers.length < 10) {
      const caller = connect({ path });
      callers.push(caller);
      refused = await once(caller, "connect").then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error.code,
      );
    }
    expect(refused).toBe("EAGAIN");
    await expect(placeSocket(path, bind)).rejects.toMatchObject({ name: "socketLive" });
  } finally {
    for (const caller of callers) caller.destroy();
    child.kill("SIGKILL");
    await once(child, "exit");
  }
});

test("a file that is not a socket is not replaced", async () => {
  await writeFile(path, "mine");
  await expect(placeSocket(path, bind)).rejects.toMatchObject({ name: "socketNotSocket", code: "FailedPrecondition" });
  await access(path);
});

test("a path that is too long is reported, and nothing is left behind", async () => {
  const long = join(directory, "x".repeat(120));
  await expect(placeSocket(long, bind)).rejects.toMatchObject({ name: "socketFailed" });
  expect(await readdir(directory)).toEqual([]);
});

test("a bind that fails leaves nothing behind", async () => {
  const failing = () => Promise.reject(new Error("no"));
  await expect(placeSocket(path, failing)).rejects.toThrow("Listening on");
  expect(await readdir(directory)).toEqual([]);
});
