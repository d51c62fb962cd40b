// A compromised decoder is confined: keelson-unpack can reach nothing of the host once it reads input. confine_test.cc
// takes the same confinement steps and then makes the attempts.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { constants, tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, assert, beforeEach, describe, expect, test } from "vitest";
import { type TarEntry, tar } from "./testing/tar.ts";
import { builds, treeOf } from "./testing/workbench.ts";

const probe = fileURLToPath(new URL("../build/confine-test", import.meta.url));
const { EACCES, ECONNREFUSED, ENETUNREACH, ENOENT, ENOSYS } = constants.errno;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "keelson-confine-test-"));
  mkdirSync(path.join(directory, "layer"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** The result of an attempt: the errno (0: it succeeded), or the signal that killed the process. */
function attempt(mode: "filtered" | "unfiltered", what: string, word = ""): number | string {
  const ran = spawnSync(probe, [path.join(directory, "layer"), mode, what, word], { encoding: "utf8" });
  if (ran.signal !== null) return ran.signal;
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  return Number(ran.stdout);
}

async function listening(address: { port: number; host: string } | string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  server.listen(address);
  await once(server, "listening");
  return server;
}

describe("a compromised decoder", () => {
  test("sees only the layer's files", () => {
    writeFileSync(path.join(directory, "layer", "mine"), "");
    writeFileSync(path.join(directory, "beside"), "");
    expect(attempt("filtered", "open", "/mine")).toBe(0);
    for (const mode of ["filtered", "unfiltered"] as const) {
      expect(attempt(mode, "open", "/etc/shadow")).toBe(ENOENT);
      expect(attempt(mode, "open", `${directory}/beside`)).toBe(ENOENT);
      expect(attempt(mode, "open", "/proc/self/root")).toBe(ENOENT);
      expect(attempt(mode, "openat2", "../beside")).toBe(ENOENT);
      expect(attempt(mode, "openat2", "../../../../../../etc/shadow")).toBe(ENOENT);
    }
    expect(attempt("filtered", "write", "/../../outside")).toBe(0);
    expect(readdirSync(directory).sort()).toEqual(["beside", "layer"]);
    expect(readdirSync(path.join(directory, "layer")).sort()).toEqual(["mine", "outside"]);
  });

  test("can create device nodes, as layers have them, but cannot open them", () => {
    expect(attempt("unfiltered", "device")).toBe(EACCES);
    rmSync(path.join(directory, "layer", "zero"));
    expect(attempt("filtered", "device")).toBe(EACCES);
  });

  test("has no network, neither the host's addresses nor its abstract sockets", async () => {
    const tcp = await listening({ port: 0, host: "127.0.0.1" });
    const abstract = await listening(`\0${directory}`);
    try {
      const address = tcp.address();
      const port = typeof address === "object" && address !== null ? String(address.port) : "";
      expect(attempt("unfiltered", "tcp", port)).toBe(ENETUNREACH);
      expect(attempt("unfiltered", "abstract", directory)).toBe(ECONNREFUSED);
      expect(attempt("filtered", "tcp", port)).toBe("SIGSYS");
      expect(attempt("filtered", "abstract", directory)).toBe("SIGSYS");
    } finally {
      tcp.close();
      abstract.close();
    }
  });

  test.each([
    ...["mount", "open_tree", "fsopen", "chroot", "unshare", "setns"],
    ...["ptrace", "kill", "pidfd_open", "process_vm_readv", "execve", "fork"],
    ...["executable memory", "executable later", "bpf", "io_uring", "prctl", "ioctl", "open_by_handle_at"],
  ])("is killed for %s", (what) => {
    expect(attempt("filtered", "nothing")).toBe(0);
    expect(attempt("filtered", what)).toBe("SIGSYS");
    // It is the filter that kills it.
    expect(attempt("unfiltered", what)).not.toBe("SIGSYS");
  });

  test("gets ENOSYS from clone3, whose flags a filter cannot see", () => {
    expect(attempt("filtered", "clone3")).toBe(ENOSYS);
  });
});

test("keelson-unpack leaves no core file", async () => {
  const words = ["--directory", path.join(directory, "layer"), "--max-bytes", "100000", "--max-inodes", "10"];
  const unpacker = spawn(builds[0].binary, words, { stdio: ["pipe", "ignore", "inherit"] });
  try {
    const of = (file: string) => readFileSync(`/proc/${unpacker.pid}/${file}`, "utf8");
    await expect.poll(() => of("status")).toMatch(/^Seccomp:\t2$/m);
    expect(of("limits")).toMatch(/^Max core file size +0 +0 /m);
  } finally {
    unpacker.stdin.end();
    await once(unpacker, "exit");
  }
});

test("keelson-unpack exits with the daemon, even while another process keeps its input open", async () => {
  const words = ["--directory", path.join(directory, "layer"), "--max-bytes", "100000", "--max-inodes", "10"];
  const fifo = path.join(directory, "input");
  execFileSync("mkfifo", [fifo]);
  const input = openSync(fifo, "r+");
  // The unpacker gets a read-only descriptor; with the other it would be a writer itself.
  const reading = openSync(fifo, "r");
  // A shell gives no input to background processes, hence descriptor 3; the script prints the pid.
  const script = 'exec 3<&0; "$@" <&3 & echo $!; wait';
  const parent = spawn("sh", ["-c", script, "sh", builds[0].binary, ...words], { stdio: [reading, "pipe", "inherit"] });
  try {
    assert(parent.stdout);
    const [line] = await once(parent.stdout, "data");
    const pid = Number(line);
    const status = () => readFileSync(`/proc/${pid}/status`, "utf8");
    await expect.poll(status).toMatch(/^Seccomp:\t2$/m);
    parent.kill("SIGKILL");
    // Its new parent may not have reaped it yet.
    const hasEnded = () => !existsSync(`/proc/${pid}`) || /^State:\tZ/m.test(status());
    await expect.poll(hasEnded).toBe(true);
  } finally {
    closeSync(input);
    closeSync(reading);
  }
});

describe("keelson-unpack needs each capability it keeps:", () => {
  const needs: readonly (readonly [string, TarEntry[], string])[] = [
    ["chown", [{ name: "x", uid: 5 }], "set the owner: Operation not permitted"],
    [
      "dac_override",
      [{ name: "d/", type: "5", mode: 0o555, uid: 5 }, { name: "d/x" }],
      "create the file: Permission denied",
    ],
    ["fowner", [{ name: "x", uid: 5 }], "set the mode: Operation not permitted"],
    ["mknod", [{ name: "x", type: "3", device: [1, 3] }], "create the node: Operation not permitted"],
    [
      "setfcap",
      [{ name: "x", pax: { "SCHILY.xattr.security.capability": "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0" } }],
      'set the attribute "security.capability": Operation not permitted',
    ],
  ];

  /** Unpacks without the capability; the environment must be root's with all others. */
  const without = (capability: string, entries: readonly TarEntry[]) => {
    const words = ["--directory", path.join(directory, "layer"), "--max-bytes", "100000", "--max-inodes", "10"];
    const dropped = ["--bounding-set", `-${capability}`, builds[0].binary, ...words];
    return spawnSync("setpriv", dropped, { input: tar(...entries), encoding: "utf8" });
  };

  test.each(needs)("%s", (capability, entries, message) => {
    expect(JSON.parse(without(capability, entries).stdout)).toMatchObject({
      message: expect.stringContaining(message),
    });
    rmSync(path.join(directory, "layer"), { recursive: true });
    mkdirSync(path.join(directory, "layer"));
    expect(without("sys_boot", entries)).toMatchObject({ status: 0 });
  });

  test("fsetid, or set-group-id is lost silently", () => {
    const entries = [{ name: "x", mode: 0o2755, gid: 7 }];
    const mode = () => JSON.parse(treeOf(path.join(directory, "layer"))[1] ?? "").mode;
    expect(without("fsetid", entries)).toMatchObject({ status: 0 });
    expect(mode()).toBe("0o755");
    rmSync(path.join(directory, "layer", "x"));
    expect(without("sys_boot", entries)).toMatchObject({ status: 0 });
    expect(mode()).toBe("0o2755");
  });
});
