// Container output and input: logs, rotation, attach, terminals.

import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, readFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Type } from "./call.ts";
import { milliseconds } from "./frozen.ts";
import { isAlive, monitorBinary, until, withPod } from "./monitor-pod.ts";

test("the log has the CRI format, and an unfinished last line as a partial one", async () => {
  await withPod({}, async (pod) => {
    const script = "echo one; echo two >&2; head -c 16385 /dev/zero | tr '\\0' x; echo; printf unfinished";
    await pod.run("a", { args: ["sh", "-c", script] });
    await pod.exited("a");
    const text = readFileSync(pod.logPath("a"), "utf8");
    for (const line of text.trim().split("\n"))
      expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z std(out|err) [PF] /);
    expect(pod.logLines("a").filter((line) => line.startsWith("stdout"))).toEqual([
      "stdout F one",
      `stdout P ${"x".repeat(16384)}`,
      "stdout F x",
      "stdout P unfinished",
    ]);
    expect(pod.logLines("a")).toContain("stderr F two");
    expect(statSync(pod.logPath("a")).mode & 0o777).toBe(0o640);
  });
});

test("rotation by reopen loses no line", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", {
      args: ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; sleep 100000"],
    });
    const rotated: string[] = [];
    for (let round = 0; round < 5; round += 1) {
      await sleep(20);
      rotated.push(`${pod.logPath("a")}.${round}`);
      renameSync(pod.logPath("a"), `${pod.logPath("a")}.${round}`);
      await pod.ask("reopen_log", { id: "a" });
      expect(statSync(pod.logPath("a")).isFile()).toBe(true);
    }
    const numbers = () =>
      [...rotated, pod.logPath("a")].flatMap((path) =>
        readFileSync(path, "utf8")
          .trim()
          .split("\n")
          .filter(Boolean)
          .map((line) => Number(line.split(" ")[3])),
      );
    await until("all is written", () => numbers().length >= 20_000);
    expect(numbers()).toEqual(Array.from({ length: 20_000 }, (_, at) => at));
    await expect(pod.ask("reopen_log", { id: "b" })).rejects.toMatchObject({ kind: "not_found" });
    await pod.run("quiet", { log: false });
    await expect(pod.ask("reopen_log", { id: "quiet" })).rejects.toMatchObject({ kind: "state" });
  });
});

test("a full disk stops neither the container nor the loop", async () => {
  await withPod({}, async (pod) => {
    const disk = join(pod.directory, "disk");
    mkdirSync(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
    try {
      const request = pod.prepare("a", {
        args: [
          "sh",
          "-c",
          "seq 1 20000; touch /tmp/written; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; sleep 100000",
        ],
      });
      const log = join(disk, "a.log");
      await pod.ask("start", { ...request, log_path: log });
      await until("the disk is full", () => pod.warnings().includes("No space left"));
      await pod.execOutput("a", "sh", "-c", "while [ ! -e /tmp/written ]; do sleep 0.01; done");
      execFileSync("truncate", ["-s", "0", log]);
      await pod.execOutput("a", "touch", "/tmp/go");
      await until("it is written again", () => readFileSync(log, "utf8").includes("stdout F after\n"));
      expect(pod.warnings()).toContain("bytes of log were lost");
      await pod.ask("stop", { id: "a", signal: 9, timeout_ms: 0 });
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
  });
});

test("a log that reaches the file size limit (RLIMIT_FSIZE) affects nothing else in its pod", async () => {
  await withPod({}, async (pod) => {
    execFileSync("prlimit", [`--fsize=${64 << 10}`, "--pid", String(pod.pid)]);
    await pod.run("a", { args: ["sh", "-c", "seq 1 20000; sleep 100000"] });
    await until("the log is full", () => pod.warnings().includes("File too large"));
    expect(await pod.execOutput("a", "echo", "here")).toBe("here\n");
    renameSync(pod.logPath("a"), `${pod.logPath("a")}.1`);
    await pod.ask("reopen_log", { id: "a" });
    await pod.ask("stop", { id: "a", signal: 9, timeout_ms: 0 });
  });
});

test.skipIf(monitorBinary.includes("sanitize"))(
  "350 MB of 100-byte lines cost at most a CPU-second",
  async () => {
    await withPod({}, async (pod) => {
      const lines = 3_500_000;
      const block = `i=0; while [ $i -lt 100 ]; do printf '%099d\\n' $i; i=$((i+1)); done > /tmp/block; for n in 1 2 3 4 5 6 7; do cat /tmp/block /tmp/block /tmp/block /tmp/block /tmp/block > /tmp/b2; mv /tmp/b2 /tmp/block; [ $(wc -l < /tmp/block) -ge 35000 ] && break; done; head -n 35000 /tmp/block > /tmp/b2`;
      await pod.run("a", {
        args: ["sh", "-c", `${block}; n=0; while [ $n -lt 100 ]; do cat /tmp/b2; n=$((n+1)); done`],
      });
      const cpu = () => {
        const stat = readFileSync(`/proc/${pod.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
        return (Number(stat[11]) + Number(stat[12])) / 100;
      };
      const begun = performance.now();
      await pod.exited("a");
      const seconds = (performance.now() - begun) / 1000;
      const size = statSync(pod.logPath("a")).size;
      console.log(`350 MB of lines: ${seconds.toFixed(2)} s, ${cpu().toFixed(2)} CPU-s of the monitor`);
      expect(size).toBe(lines * (100 + 40));
      expect(cpu()).toBeLessThanOrEqual(2); // the target is 1 on a quiet machine
    });
  },
  120_000,
);

test("several clients attach: all see the output of what one types", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sh", "-c", "while read x; do echo got $x; echo e$x >&2; done; exit 3"], stdin: true });
    const calls = [true, false, false].map((stdin) => pod.call("attach", { id: "a", stdin }));
    await Promise.all(calls.map((call) => call.frame(Type.started)));
    calls[0]?.send(Type.stdin, "1\n");
    calls[1]?.send(Type.stdin, "ignored\n");
    for (const call of calls)
      await call.until(() => call.output() === "got 1\n" && call.bytes(Type.stderr).toString() === "e1\n");
    calls[0]?.send(Type.stdinClose); // stdin_once is off: nothing happens
    calls[0]?.socket.destroy();
    const late = pod.call("attach", { id: "a", stdin: true });
    await late.frame(Type.started);
    late.send(Type.stdin, "2\n");
    await late.until(() => late.output() === "got 2\n");
    await pod.ask("stop", { id: "a", signal: 9, timeout_ms: 0 });
    for (const call of [...calls.slice(1), late]) expect(await call.frame(Type.reply)).toEqual({ exit_code: 137 });
    expect(calls[1]?.output()).toBe("got 1\ngot 2\n");
    await expect(pod.call("attach", { id: "a", stdin: false }).frame(Type.reply)).rejects.toMatchObject({
      kind: "state",
    });
  });
});

test("with stdin_once, stdin is closed when the first client that attached to it disconnects", async () => {
  await withPod({}, async (pod) => {
    for (const how of ["close", "hang up"]) {
      const id = how.replace(" ", "-");
      await pod.run(id, { args: ["sh", "-c", "cat; exit 4"], stdin: true, stdinOnce: true });
      const call = pod.call("attach", { id, stdin: true });
      await call.frame(Type.started);
      call.send(Type.stdin, "text");
      await call.until(() => call.output() === "text");
      if (how === "close") call.send(Type.stdinClose);
      else call.socket.destroy();
      expect(await pod.exited(id)).toMatchObject({ exit_code: 4 });
    }
  });
});

test.each([false, true])(
  "a client with stdin gets all output, however slowly it reads; the container is blocked (tty: %s)",
  async (tty) => {
    await withPod({}, async (pod) => {
      const script =
        "stty -opost 2>/dev/null; read go; head -c 3000000 /dev/zero; touch /tmp/through; read go; printf end";
      await pod.run("a", { args: ["sh", "-c", script], stdin: true, stdinOnce: true, tty });
      const call = pod.call("attach", { id: "a", stdin: true });
      await call.frame(Type.started);
      call.socket.pause();
      call.send(Type.stdin, "go\n");
      await sleep(300);
      expect(await pod.execOutput("a", "sh", "-c", "[ -e /tmp/through ] || echo waits")).toBe("waits\n");
      call.socket.resume();
      await call.until(() => call.bytes(Type.stdout).length >= 3_000_000);
      call.send(Type.stdin, "go\n");
      expect(await call.frame(Type.reply)).toEqual({ exit_code: 0 });
      const output = call.output();
      expect(output.endsWith("end")).toBe(true);
      expect(output.match(/\0/g)).toHaveLength(3_000_000);
      const logged = pod.logLines("a").reduce((sum, line) => sum + (line.match(/\0/g)?.length ?? 0), 0);
      expect(logged, "in the log").toBe(3_000_000);
    });
  },
);

test("a client that blocked the container when it exited gets the complete last output", async () => {
  await withPod({}, async (pod) => {
    // More than the buffers between the container and this client hold, but not more than these and a widened pipe,
    // written in pieces that never fill a pipe of the default size.
    const script = "read go; for piece in $(seq 160); do head -c 4096 /dev/zero; done";
    await pod.run("a", { args: ["sh", "-c", script], stdin: true });
    const call = pod.call("attach", { id: "a", stdin: true });
    await call.frame(Type.started);
    call.socket.pause();
    call.send(Type.stdin, "go\n");
    expect(await pod.exited("a")).toMatchObject({ exit_code: 0 });
    call.socket.resume();
    expect(await call.frame(Type.reply)).toEqual({ exit_code: 0 });
    expect(call.bytes(Type.stdout).length).toBe(160 * 4096);
  });
});

test("a container that does not read its stdin blocks only its own clients", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sleep", "100000"], stdin: true });
    const call = pod.call("attach", { id: "a", stdin: true });
    await call.frame(Type.started);
    for (let i = 0; i < 64; i += 1) call.send(Type.stdin, Buffer.alloc(65536));
    await sleep(300);
    expect(call.socket.writableLength).toBeGreaterThan(2 << 20);
    expect(await pod.execOutput("a", "echo", "hi")).toBe("hi\n");
    call.socket.destroy();
  });
});

test("a container with a terminal: one stream, resize, attach", async () => {
  await withPod({}, async (pod) => {
    const args = ["sh", "-c", "tty; read x; stty size; echo err >&2; read x; exit 8"];
    await pod.run("a", { args, tty: true, stdin: true });
    const call = pod.call("attach", { id: "a", stdin: true });
    await call.frame(Type.started);
    await pod.ask("resize", { id: "a", columns: 132, rows: 43 });
    call.send(Type.stdin, "go\n");
    await call.until(() => call.output().includes("err"));
    expect(call.output()).toContain("43 132\r\n");
    call.resize(10, 20);
    const size = () => pod.execOutput("a", "sh", "-c", "stty size < /dev/console");
    await expect.poll(size, { timeout: 10_000 }).toBe("20 10\n");
    call.send(Type.stdin, "end\n");
    expect(await call.frame(Type.reply)).toEqual({ exit_code: 8 });
    expect(pod.logLines("a")).toContain("stdout F err\r");
    expect(pod.logLines("a").every((line) => line.startsWith("stdout "))).toBe(true);
    expect(await pod.exited("a")).toMatchObject({ tty: true });
  });
});

test("a terminal with stdin_once accepts input from the next client too, in cooked and raw mode", async () => {
  await withPod({}, async (pod) => {
    for (const id of ["cooked", "raw"]) {
      const script = `stty ${id} -echo; echo set; while x=$(dd bs=2 count=1 2>/dev/null); do echo got $x; done`;
      await pod.run(id, { args: ["sh", "-c", script], tty: true, stdin: true, stdinOnce: true });
      await until("it is set", () => pod.logLines(id).some((line) => line.includes("set")));
      for (const letter of ["a", "b"]) {
        const call = pod.call("attach", { id, stdin: true });
        await call.frame(Type.started);
        call.send(Type.stdin, `${letter}\n`);
        await call.until(() => call.output().includes(`got ${letter}`));
        call.socket.destroy();
      }
    }
  });
});

test("a terminal is still read after no process had it open for a while, and its session ends with its process", async () => {
  await withPod({}, async (pod) => {
    const script =
      "t=$(tty); read go; exec </dev/null >/dev/null 2>&1; sleep 0.3; echo two >$t; sleep 0.3; echo three >$t; exit 5";
    await pod.run("a", { args: ["sh", "-c", script], tty: true, stdin: true });
    const attached = pod.call("attach", { id: "a", stdin: true });
    await pod.run("b", {});
    const executed = pod.exec("b", ["sh", "-c", script], { tty: true, stdin: true });
    for (const call of [attached, executed]) {
      await call.frame(Type.started);
      call.send(Type.stdin, "go\n");
    }
    expect(await attached.frame(Type.reply)).toEqual({ exit_code: 5 });
    expect(await executed.frame(Type.reply)).toEqual({ exit_code: 5, signal: 0 });
    for (const call of [attached, executed]) expect(call.output()).toBe("go\r\ntwo\r\nthree\r\n");
    expect(pod.logLines("a")).toEqual(["stdout F go\r", "stdout F two\r", "stdout F three\r"]);
    const short = pod.exec("b", ["sh", "-c", "sleep 5 </dev/null >/dev/null 2>&1 & echo now"], { tty: true });
    expect(await milliseconds(() => short.frame(Type.reply))).toBeLessThan(900); // not the limit for streams that others hold open
    expect(short.output()).toBe("now\r\n");
  });
});

test("a terminal without a reader blocks only its own clients, and gets the end of input after all input", async () => {
  await withPod({}, async (pod) => {
    const waits = ["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; cat >/dev/null; echo ended"];
    await pod.run("a", { args: waits, tty: true, stdin: true, stdinOnce: true });
    const attached = pod.call("attach", { id: "a", stdin: true });
    await attached.frame(Type.started);
    await pod.run("b", {});
    const executed = pod.exec("b", waits, { tty: true, stdin: true });
    await executed.frame(Type.started);
    const lines = `${"x".repeat(99)}\n`.repeat(150);
    for (const [id, call] of [
      ["a", attached],
      ["b", executed],
    ] as const) {
      for (let i = 0; i < 8; i += 1) call.send(Type.stdin, lines);
      call.send(Type.stdinClose);
      await sleep(100);
      expect(await Promise.race([pod.ask("hello"), sleep(2000)])).toMatchObject({ pid: pod.pid });
      await pod.execOutput(id, "touch", "/tmp/go");
      await call.frame(Type.reply);
      expect(call.output()).toContain("ended\r\n");
    }
  });
});

test("a terminal that another process keeps open after the container's exit delays nothing", async () => {
  await withPod({}, async (pod) => {
    const { pid } = await pod.run("a", { tty: true });
    const slave = openSync(`/proc/${pid}/fd/0`, constants.O_RDWR | constants.O_NOCTTY);
    try {
      await pod.ask("kill", { id: "a", signal: 9 });
      await until("it is dead", () => !isAlive(pid));
      expect(await Promise.race([pod.ask("hello"), sleep(2000)])).toMatchObject({ pid: pod.pid });
      expect(await pod.exited("a")).toMatchObject({ exit_code: 137 });
    } finally {
      closeSync(slave);
    }
  });
});

test("attaching and disconnecting 300 times leaks nothing", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["cat"], stdin: true });
    for (let i = 0; i < 300; i += 1) {
      const call = pod.call("attach", { id: "a", stdin: true });
      await call.frame(Type.started);
      if (i % 2 === 0) call.send(Type.stdin, `${i}\n`);
      call.socket.destroy();
    }
    const descriptors = () =>
      Number(execFileSync("sh", ["-c", `ls /proc/${pod.pid}/fd | wc -l`], { encoding: "utf8" }));
    await until("descriptors are closed", () => descriptors() < 30);
    await until("every line arrived", () => pod.logLines("a").length === 150);
  });
});

test.skipIf(monitorBinary.includes("sanitize"))(
  "disconnected clients use no memory, even if the container writes nothing",
  async () => {
    await withPod({}, async (pod) => {
      await pod.run("a", {});
      const kilobytes = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pod.pid}/status`, "utf8"))?.[1]);
      const before = kilobytes();
      for (let i = 0; i < 2000; i += 1) {
        const call = pod.call("attach", { id: "a", stdin: false });
        await call.frame(Type.started);
        call.socket.destroy();
      }
      expect(kilobytes() - before).toBeLessThan(200);
    });
  },
);
