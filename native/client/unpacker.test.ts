// unpackLayer with the real keelson-unpack: back-pressure, early failure, death, abort, and nothing left over.

import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { getPriority, tmpdir } from "node:os";
import path from "node:path";
import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { tar, tarEntry } from "../unpack/testing/tar.ts";
import { builds } from "../unpack/testing/workbench.ts";
import { unpackLayer } from "./unpacker.ts";

const { binary } = builds[0];
const waiting = { timeout: 10_000 };
const sha256 = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const limits = { maxBytes: 1_000_000_000n, maxInodes: 100_000n };

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "keelson-unpacker-test-"));
  mkdirSync(at("layer"));
});
afterEach(async () => {
  // No unpacker may be left, neither running nor as a zombie.
  expect(await vi.waitUntil(() => children().length === 0, waiting)).toBe(true);
  rmSync(directory, { recursive: true, force: true });
});

const at = (name: string) => path.join(directory, name);
const options = () => ({ ...limits, directory: at("layer") });

/** Pids of this process's children, of any thread, including dead ones. */
function children(): string[] {
  return readdirSync("/proc/self/task").flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, "utf8").split(" ").filter(Boolean),
  );
}

/** An executable that runs `script` in place of the unpacker. */
function impostor(script: string): string {
  writeFileSync(at("impostor"), `#!/bin/sh\n${script}\n`);
  chmodSync(at("impostor"), 0o755);
  return at("impostor");
}

describe("unpackLayer", () => {
  test("unpacks the layer, keeps the blob, and reports", async () => {
    const content = randomBytes(5_000_000);
    const plain = tar({ name: "d/", type: "5", mode: 0o755 }, { name: "d/f", content });
    const blob = gzipSync(plain);
    const unpack = unpackLayer(binary, { ...options(), blobPath: at("blob") });
    await pipeline(Readable.from([blob.subarray(0, 3), blob.subarray(3, 70_000), blob.subarray(70_000)]), unpack.input);
    expect(await unpack.report).toEqual({
      digest: sha256(blob),
      size: BigInt(blob.length),
      diffId: sha256(plain),
      unpackedBytes: 5_000_000n,
      inodes: 2n,
    });
    expect(readFileSync(at("blob")).equals(blob)).toBe(true);
    expect(readFileSync(at("layer/d/f")).equals(content)).toBe(true);
  });

  test("reads no more from the source than the unpacker accepts", async () => {
    let given = 0;
    const endless = async function* () {
      yield tarEntry({ name: "big", pax: { size: "900000000" } });
      for (;;) {
        given += 65_536;
        yield Buffer.alloc(65_536);
        await sleep(0);
      }
    };
    const unpack = unpackLayer(binary, options());
    const fed = pipeline(Readable.from(endless(), { objectMode: false, highWaterMark: 65_536 }), unpack.input);
    const outcome = Promise.allSettled([fed, unpack.report]);
    const [pid] = await vi.waitUntil(
      () => (given > 500_000 && children().length === 1 ? children() : undefined),
      waiting,
    );
    process.kill(Number(pid), "SIGSTOP");
    const before = given;
    let stopped = 0;
    // Buffers fill slowly on a busy machine.
    while (stopped !== given) {
      stopped = given;
      await sleep(300);
    }
    expect(stopped - before).toBeLessThan(2 * 1024 * 1024);
    process.kill(Number(pid), "SIGCONT");
    await vi.waitUntil(() => given > stopped + 1_000_000, waiting);
    unpack.abort();
    expect(await outcome).toMatchObject([{ status: "rejected" }, { reason: { name: "unpackAborted" } }]);
  });

  test("reports an early failure with the unpacker's own message on both ends, even while the source is slow", async () => {
    // Sends one malicious entry and then nothing, not even the end.
    const slow = new PassThrough();
    slow.write(tarEntry({ name: "../x" }));
    const unpack = unpackLayer(binary, options());
    const [fed, report] = await Promise.allSettled([pipeline(slow, unpack.input), unpack.report]);
    expect(report).toMatchObject({ reason: { name: "layerInvalid", code: "InvalidArgument" } });
    expect(report).toMatchObject({ reason: { message: expect.stringContaining('entry "../x": check the entry') } });
    expect(fed).toEqual(report);
  });

  test("rejects with the same error for a writer that hits the broken pipe", async () => {
    const unpack = unpackLayer(binary, options());
    const bytes = Buffer.concat([Buffer.alloc(512, "no tar"), Buffer.alloc(64 * 1024 * 1024)]);
    const [fed, report] = await Promise.allSettled([pipeline(Readable.from([bytes]), unpack.input), unpack.report]);
    expect(report).toMatchObject({ reason: { name: "layerInvalid" } });
    expect(fed).toEqual(report);
  });

  test.each([
    ["a damaged layer", () => gzipSync(tar({ name: "x" })).fill(0, 20), {}, "layerInvalid", "InvalidArgument"],
    ["a truncated layer", () => gzipSync(tar({ name: "x" })).subarray(0, 40), {}, "layerInvalid", "InvalidArgument"],
    ["too many bytes", () => tar({ name: "x" }), { maxBytes: 600n }, "layerTooLarge", "ResourceExhausted"],
    ["too many inodes", () => tar({ name: "x/y" }), { maxInodes: 1n }, "layerTooLarge", "ResourceExhausted"],
    ["a blob that exists", () => tar({ name: "x" }), { blobPath: "/etc/passwd" }, "layerTargetTaken", "AlreadyExists"],
    ["a directory in use", () => tar({ name: "x" }), { directory: "/etc" }, "layerTargetTaken", "AlreadyExists"],
    ["no directory", () => tar({ name: "x" }), { directory: "/proc/nowhere" }, "layerNotWritten", "Internal"],
  ])("rejects with the right error: %s", async (_, bytes, changes, name, code) => {
    const unpack = unpackLayer(binary, { ...options(), ...changes });
    unpack.input.end(bytes());
    await expect(unpack.report).rejects.toMatchObject({ name, code });
  });

  test("reports that the disk is full", async () => {
    mkdirSync(at("small"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "tmpfs", at("small")]);
    try {
      const into = async (name: string, bytes: Buffer) => {
        mkdirSync(at(`small/${name}`));
        const unpack = unpackLayer(binary, { ...options(), directory: at(`small/${name}`) });
        unpack.input.end(bytes);
        await expect(unpack.report).rejects.toMatchObject({ name: "noRoomForLayer", code: "ResourceExhausted" });
      };
      await into("bytes", tar({ name: "x", content: Buffer.alloc(2_000_000, 1) }));
      await into("inodes", tar(...Array.from({ length: 30 }, (_, i) => ({ name: `f${i}` }))));
    } finally {
      execFileSync("umount", [at("small")]);
    }
  });

  test("reports a missing unpacker, and one that does not report", async () => {
    const missing = unpackLayer(at("missing"), options());
    missing.input.end("x");
    await expect(missing.report).rejects.toMatchObject({ name: "unpackerNotStarted", code: "FailedPrecondition" });
    for (const [script, how] of [
      ["kill -9 $$", "killed by SIGKILL"],
      ["echo 'out of luck.' >&2; exit 3", "exit code 3 (out of luck)"],
      ["cat > /dev/null; echo '{}'", "exit code 0"],
      ["cat > /dev/null; head -c 1000000 /dev/zero", "killed after more than 65536 bytes"],
      [`echo '{"kind": "magic", "step": "", "object": "", "errno": 0, "message": ""}'; exit 1`, "exit code 1"],
    ] as const) {
      const unpack = unpackLayer(impostor(script), options());
      unpack.input.end("x");
      const message = expect.stringContaining(`exited without a report: ${how}.`);
      await expect(unpack.report).rejects.toMatchObject({ name: "unpackerDied", code: "Internal", message });
    }
  });

  test("rejects if the process cannot be started for lack of descriptors, and throws nothing", () => {
    const script = `
import { unpackLayer } from ${JSON.stringify(new URL("./unpacker.ts", import.meta.url).href)};
const unpack = unpackLayer(${JSON.stringify(binary)}, ${JSON.stringify({ directory: at("layer"), maxBytes: "1", maxInodes: "1" })});
unpack.input.write("x");
unpack.report.catch((error) => console.log(error.name));
`;
    writeFileSync(at("starved.ts"), script);
    const words = ["-c", `ulimit -n 24; exec "$0" "$1"`, process.execPath, at("starved.ts")];
    expect(execFileSync("sh", words, { encoding: "utf8" })).toBe("unpackerNotStarted\n");
  });

  test.each(["abort()", "input destroyed", "source fails"])("kills the process and rejects after: %s", async (how) => {
    const unpack = unpackLayer(binary, options());
    unpack.input.write(tar({ name: "x", content: Buffer.alloc(100_000) }).subarray(0, 50_000));
    await vi.waitUntil(() => readdirSync(at("layer")).length === 1, waiting);
    if (how === "abort()") unpack.abort();
    if (how === "input destroyed") unpack.input.destroy();
    const failing = Readable.from(
      (async function* () {
        yield Buffer.alloc(10);
        throw new Error("the registry hung up");
      })(),
    );
    if (how === "source fails") await expect(pipeline(failing, unpack.input)).rejects.toThrow("the registry hung up");
    await expect(unpack.report).rejects.toMatchObject({ name: "unpackAborted", code: "Cancelled" });
    unpack.abort();
  });

  test("an abort after the exit changes nothing", async () => {
    const unpack = unpackLayer(binary, options());
    unpack.input.end(tar({ name: "x" }));
    expect(await unpack.report).toMatchObject({ inodes: 1n });
    unpack.abort();
    expect(await unpack.report).toMatchObject({ inodes: 1n });
  });

  test("many unhandled failures leak no descriptor and cause no unhandled rejection", async () => {
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", note).on("uncaughtException", note);
    try {
      const before = descriptors();
      for (let round = 0; round < 20; round++) {
        const unpack = unpackLayer(binary, { ...options(), directory: "/nowhere" });
        unpack.input.write(Buffer.alloc(1_000_000));
        unpackLayer(at("missing"), options()).input.write("x");
        unpackLayer(binary, { ...options(), directory: "/nowhere" }).abort();
        await unpack.report.catch(() => undefined);
      }
      await vi.waitUntil(() => children().length === 0, waiting);
      await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before + 2);
      expect(unhandled).toEqual([]);
    } finally {
      process.off("unhandledRejection", note).off("uncaughtException", note);
    }
  });
});

describe.each(builds)("the process of keelson-unpack, $build build", ({ binary }) => {
  const words = () => ["--directory", at("layer"), "--max-bytes", "1000", "--max-inodes", "10", "--blob", at("blob")];
  const status = (pid: number, field: string) =>
    new RegExp(`^${field}:\\s*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];

  test("has only the capabilities and descriptors that it needs while it reads", async () => {
    const child = spawn(binary, words(), { stdio: ["pipe", "pipe", "pipe"] });
    const pid = child.pid ?? 0;
    try {
      await vi.waitUntil(() => status(pid, "Threads") === "2" || binary.includes("sanitize"), waiting);
      await vi.waitUntil(() => status(pid, "Seccomp") === "2", waiting);
      // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, SYS_ADMIN 21, MKNOD 27, SETFCAP 31
      const mask = [0, 1, 3, 4, 21, 27, 31]
        .reduce((sum, bit) => sum + 2 ** bit, 0)
        .toString(16)
        .padStart(16, "0");
      const zero = "0".repeat(16);
      const sets = ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"].map((set) => status(pid, set));
      expect(sets).toEqual([mask, mask, mask, zero, zero]);
      expect(status(pid, "NoNewPrivs")).toBe("1");
      expect(readFileSync(`/proc/${pid}/limits`, "utf8")).toMatch(/Max core file size\s+0\s+0 /);
      const [, , , ...own] = readdirSync(`/proc/${pid}/fd`);
      const files = own.map((fd) => statSync(`/proc/${pid}/fd/${fd}`).ino);
      expect(files).toEqual([statSync(at("blob")).ino, statSync(at("layer")).ino]);
    } finally {
      child.kill("SIGKILL");
      await once(child, "close");
    }
  });

  test("runs with a lower CPU priority", async () => {
    const child = spawn(binary, words(), { stdio: ["pipe", "pipe", "pipe"] });
    const { pid = 0 } = child;
    try {
      await vi.waitUntil(() => status(pid, "Seccomp") === "2", waiting);
      expect(getPriority(pid)).toBe(Math.min(getPriority() + 10, 19));
    } finally {
      child.kill("SIGKILL");
      await once(child, "close");
    }
  });

  test("sees only the layer's directory while it reads: its own namespaces and one mount", async () => {
    writeFileSync(at("beside"), "");
    const child = spawn(binary, words(), { stdio: ["pipe", "pipe", "pipe"] });
    const pid = child.pid ?? 0;
    try {
      await vi.waitUntil(() => status(pid, "Seccomp") === "2", waiting);
      for (const namespace of ["mnt", "net", "ipc", "uts"]) {
        const own = readlinkSync(`/proc/${pid}/ns/${namespace}`);
        expect([namespace, own]).not.toEqual([namespace, readlinkSync(`/proc/self/ns/${namespace}`)]);
      }
      const mounts = readFileSync(`/proc/${pid}/mountinfo`, "utf8").trimEnd().split("\n");
      expect(mounts).toEqual([expect.stringMatching(/\/layer \/ rw,nosuid,nodev,noexec\S* /)]);
      expect(readdirSync(`/proc/${pid}/root/`)).toEqual([]);
      child.stdin.write(tarEntry({ name: "mine" }));
      await vi.waitUntil(() => readdirSync(`/proc/${pid}/root/`).includes("mine"), waiting);
      expect(readdirSync(at("layer"))).toEqual(["mine"]);
    } finally {
      child.kill("SIGKILL");
      await once(child, "close");
    }
  });

  test("dies with its parent, even when its input stays open", async () => {
    const fifo = at("fifo");
    execFileSync("mkfifo", [fifo]);
    // A shell that keeps the fifo open for writing and starts the unpacker on it.
    const quoted = words()
      .map((word) => `'${word}'`)
      .join(" ");
    const script = `exec 9<>'${fifo}'; '${binary}' ${quoted} < '${fifo}' & echo $!; wait`;
    const parent = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    const opener = spawn("sh", ["-c", `exec sleep 60 <>'${fifo}'`], { stdio: "ignore" });
    try {
      const [line] = await once(parent.stdout, "data");
      const pid = Number(String(line));
      await vi.waitUntil(() => status(pid, "NoNewPrivs") === "1", waiting);
      await sleep(50);
      parent.kill("SIGKILL");
      await once(parent, "exit");
      const isGone = () => {
        try {
          return status(pid, "State")?.startsWith("Z") === true;
        } catch {
          return true;
        }
      };
      expect(await vi.waitUntil(isGone, waiting)).toBe(true);
    } finally {
      for (const child of [parent, opener]) child.kill("SIGKILL");
      await once(opener, "exit");
    }
  });
});
