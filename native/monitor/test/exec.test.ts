// Exec sessions and port forwarding through the monitor.

import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Call, type CallError, type Frame, Type } from "./call.ts";
import { isAlive, type TestPod, until, withPod } from "./monitor-pod.ts";

const sigkill = 9;
const v2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].find((path) => existsSync(path)) ?? "";

function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

async function outcome(call: Call): Promise<Record<string, unknown>> {
  return call.frame(Type.reply);
}

async function withContainer(body: (pod: TestPod) => Promise<void>, options = {}): Promise<void> {
  await withPod({}, async (pod) => {
    await pod.run("a", options);
    await body(pod);
  });
}

test("streams, exit codes and signals are reported exactly", async () => {
  await withContainer(async (pod) => {
    const call = pod.exec("a", ["sh", "-c", "echo out; echo err >&2; exit 7"]);
    expect(await outcome(call)).toEqual({ exit_code: 7, signal: 0 });
    expect(call.frames[0]?.type).toBe(Type.started);
    expect(call.bytes(Type.stdout).toString()).toBe("out\n");
    expect(call.bytes(Type.stderr).toString()).toBe("err\n");
    expect(await outcome(pod.exec("a", ["sh", "-c", "kill -9 $$"]))).toEqual({ exit_code: 137, signal: sigkill });
    await expect(outcome(pod.exec("a", ["nothing"]))).rejects.toMatchObject({ kind: "not_executable" });
    await expect(outcome(pod.exec("a", ["/etc"]))).rejects.toMatchObject({ kind: "not_executable" });
    const tooLong = pod.exec("a", ["echo", "x".repeat(131_072)]);
    await expect(outcome(tooLong)).rejects.toMatchObject({ kind: "invalid", errno: 7 });
    await expect(outcome(pod.exec("b", ["true"]))).rejects.toMatchObject({ kind: "not_found" });
    expect(await pod.execOutput("a", "echo", "--help", "-e", "; rm")).toBe("--help -e ; rm\n");
    expect(await pod.execOutput("a", "cat")).toBe(""); // without stdin it reads nothing
  });
});

test.each([
  ["a file", "echo x > /dev/null"],
  ["a link", "ln -s /etc/passwd /dev/null"],
  ["nothing", ":"],
])("an exec without stdin succeeds in a container with %s in place of its /dev/null", async (_, command) => {
  await withContainer(async (pod) => {
    await pod.execOutput("a", "sh", "-c", `rm /dev/null; ${command}`);
    expect(await pod.execOutput("a", "cat")).toBe("");
    // It gets the host's node instead, through a mount that does not allow changing it.
    const mode = () => statSync("/dev/null").mode;
    const before = mode();
    const tries = await pod.execOutput("a", "sh", "-c", "chmod 0 /dev/fd/0 2>&1; chown 5 /dev/fd/0 2>&1");
    expect(tries.match(/Read-only file system/g)).toHaveLength(2);
    expect(mode()).toBe(before);
  });
});

test("a user that is not root can reopen its streams by path", async () => {
  await withPod({}, async (pod) => {
    const script = "echo out >/dev/stdout; echo err >/dev/stderr; echo $?";
    await pod.run("a", { args: ["sh", "-c", `${script}; sleep 1000`], uid: 1000, log: true });
    expect(await pod.execOutput("a", "sh", "-c", script)).toBe("out\n0\n");
    await until("the log has the exit code", () => pod.logLines("a").includes("stdout F 0"));
    expect(pod.logLines("a").toSorted()).toEqual(["stderr F err", "stdout F 0", "stdout F out"]);
  });
});

test("an exec with `brief` reports its start only if it runs for a while", async () => {
  await withContainer(async (pod) => {
    const long = pod.exec("a", ["sh", "-c", "sleep 1; exit 3"], { brief: true });
    expect(await outcome(long)).toEqual({ exit_code: 3, signal: 0 });
    expect(long.frames[0]?.type).toBe(Type.started);
    // A busy machine may delay some of them, but not all.
    const short = Array.from({ length: 10 }, () => pod.exec("a", ["true"], { brief: true }));
    for (const call of short) expect(await outcome(call)).toEqual({ exit_code: 0, signal: 0 });
    expect(short.some(({ frames }) => frames[0]?.type === Type.reply)).toBe(true);
  });
});

test("an exec that races with the exit of its container gets an error that says so", async () => {
  await withPod({}, async (pod) => {
    const told = new Set<string>();
    for (let n = 0; n < 20; n += 1) {
      const { pid } = await pod.run(`c${n}`, {});
      const before = pod.exec(`c${n}`, ["true"]);
      process.kill(pod.pid, "SIGSTOP");
      const after = pod.exec(`c${n}`, ["true"]);
      process.kill(Number(pid), "SIGKILL");
      process.kill(pod.pid, "SIGCONT");
      for (const call of [before, after]) {
        const end = outcome(call).then(({ exit_code }) => String(exit_code));
        told.add(await end.catch(({ kind }: CallError) => kind));
      }
    }
    expect(["0", "137", "state"]).toEqual(expect.arrayContaining([...told]));
    expect(told).toContain("state");
  });
});

test("64 MiB pass through stdin and stdout unchanged", async () => {
  await withContainer(async (pod) => {
    const call = pod.exec("a", ["cat"], { stdin: true });
    await call.frame(Type.started);
    const input = randomBytes(64 << 20);
    const received = createHash("sha256");
    const count = { bytes: 0 };
    const collect = (frame: Frame) => {
      received.update(frame.payload);
      count.bytes += frame.payload.length;
    };
    call.frames.push = (...frames: Frame[]) => {
      for (const frame of frames)
        frame.type === Type.stdout ? collect(frame) : Array.prototype.push.call(call.frames, frame);
      return 0;
    };
    await call.sendAll(input);
    expect(await outcome(call)).toEqual({ exit_code: 0, signal: 0 });
    expect(count.bytes).toBe(input.length);
    expect(received.digest("hex")).toBe(createHash("sha256").update(input).digest("hex"));
  });
}, 60_000);

test("a process that does not read its stdin blocks the client", async () => {
  await withContainer(async (pod) => {
    const call = pod.exec("a", ["sleep", "100000"], { stdin: true });
    const started = await call.frame(Type.started);
    for (let i = 0; i < 64; i += 1) call.send(Type.stdin, Buffer.alloc(65536));
    await sleep(300);
    // 4 MiB were sent; the pipe (64 KiB), the monitor (256 KiB) and the socket's buffers hold the accepted part.
    expect(call.socket.writableLength).toBeGreaterThan(2 << 20);
    call.socket.destroy();
    await until("the process is dead though its input was paused", () => !isAlive(started.pid));
  });
});

test("closing stdin ends the reader; input after the reader has closed its stdin is dropped", async () => {
  await withContainer(async (pod) => {
    const call = pod.exec("a", ["sh", "-c", "head -c 3; exec 0<&-; sleep 0.2; echo done"], { stdin: true });
    await call.frame(Type.started);
    await call.sendAll(Buffer.alloc(1 << 20, "x"));
    expect(await outcome(call)).toEqual({ exit_code: 0, signal: 0 });
    expect(call.output()).toBe("xxxdone\n");
    const wc = pod.exec("a", ["wc", "-c"], { stdin: true });
    await wc.sendAll(Buffer.from("12345"));
    await outcome(wc);
    expect(wc.output().trim()).toBe("5");
  });
});

test("a grandchild that keeps the pipes open does not keep the session open", async () => {
  await withContainer(async (pod) => {
    const begun = performance.now();
    const call = pod.exec("a", ["sh", "-c", "(sleep 0.3; echo late; sleep 30; echo never) & echo now; exit 2"]);
    expect(await outcome(call)).toEqual({ exit_code: 2, signal: 0 });
    expect(performance.now() - begun).toBeGreaterThan(950);
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(call.output()).toBe("now\nlate\n");
    const noisy = pod.exec("a", ["sh", "-c", "yes & exit 0"]);
    expect(await outcome(noisy)).toEqual({ exit_code: 0, signal: 0 });
    await pod.execOutput("a", "killall", "yes");
  });
});

test.each(["", "setsid sleep 100000 &"])(
  "a client that reads late still gets everything written to a terminal (%s)",
  async (holder) => {
    await withContainer(async (pod) => {
      const lines = "n=0; while printf '%099d\\n' $n; do n=$((n+1)); echo $n >/tmp/n; done";
      const call = pod.exec("a", ["sh", "-c", `stty -opost; echo $$ >/tmp/pid; ${holder} ${lines}`], { tty: true });
      await call.frame(Type.started);
      call.socket.pause();
      const taken = async () => Number(await pod.execOutput("a", "sh", "-c", "cat /tmp/n || true"));
      let [before, now] = [-1, 0];
      for (; now !== before || now < 1000; await sleep(300)) [before, now] = [now, await taken()];
      await pod.execOutput("a", "sh", "-c", "kill -9 $(cat /tmp/pid)");
      await sleep(1500);
      call.socket.resume();
      expect(await outcome(call)).toMatchObject({ signal: sigkill });
      expect(call.bytes(Type.stdout).length).toBeGreaterThanOrEqual(now * 100);
    });
  },
);

test("at the time limit the process is killed with its children", async () => {
  await withContainer(async (pod) => {
    const call = pod.exec("a", ["sh", "-c", "setsid sleep 77777 & sleep 77777"], { timeout_ms: 300 });
    expect(await call.frame(Type.error)).toMatchObject({ kind: "timeout" });
    await until("all are dead", () => !commands().includes("sleep\0" + "77777\0"));
    expect(await outcome(pod.exec("a", ["true"], { timeout_ms: 20_000 }))).toEqual({ exit_code: 0, signal: 0 });
  });
});

test("execs end with their container", async () => {
  await withContainer(async (pod) => {
    const calls = [pod.exec("a", ["sleep", "100000"]), pod.exec("a", ["cat"], { stdin: true, tty: true })];
    await Promise.all(calls.map((call) => call.frame(Type.started)));
    await pod.ask("stop", { id: "a", signal: 9, timeout_ms: 0 });
    for (const call of calls) expect(await outcome(call)).toEqual({ exit_code: 137, signal: sigkill });
    await expect(outcome(pod.exec("a", ["true"]))).rejects.toMatchObject({ kind: "state" });
  });
});

test("a terminal: size, resize, end of file, one stream", async () => {
  await withContainer(async (pod) => {
    const script = "tty; stty size; read x; stty size; echo err >&2; cat; exit 6";
    const call = pod.exec("a", ["sh", "-c", script], { tty: true, stdin: true, columns: 80, rows: 24 });
    await call.until(() => call.output().includes("24 80"));
    call.resize(100, 30);
    call.send(Type.stdin, "go\n");
    await call.until(() => call.output().includes("err"));
    call.send(Type.stdinClose);
    expect(await outcome(call)).toEqual({ exit_code: 6, signal: 0 });
    expect(call.output()).toContain("/dev/pts/0\r\n24 80\r\n");
    expect(call.output()).toContain("30 100\r\n");
    expect(call.bytes(Type.stderr).length).toBe(0);
  });
});

test("with a terminal, TERM is the container's, or xterm if it has none", async () => {
  await withPod({}, async (pod) => {
    await pod.run("silent", {});
    await pod.run("telling", { env: ["TERM=vt100"] });
    const told = async (id: string, tty: boolean) => {
      const call = pod.exec(id, ["sh", "-c", "echo $TERM"], { tty });
      await outcome(call);
      return call.output().trim();
    };
    expect(await told("silent", true)).toBe("xterm");
    expect(await told("silent", false)).toBe("");
    expect(await told("telling", true)).toBe("vt100");
  });
});

test.runIf(process.arch === "x64")(
  "an exec starts in its init's nested cgroup if the container's own cgroup accepts no process (EBUSY of cgroup v2)",
  async () => {
    const busy = 16;
    await withContainer(async (pod) => {
      const failer = join(pod.directory, "failer");
      execFileSync("g++", ["-o", failer, join(import.meta.dirname, "../../testing/syscall_failer.cc")]);
      const failOneClone = async () => {
        const tracer = spawn(failer, [String(pod.pid), String(busy)], { stdio: ["ignore", "pipe", "inherit"] });
        await once(tracer.stdout, "data");
      };
      const { containers } = await pod.ask("state");
      const [init] = (containers as { pid: number }[]).map(({ pid }) => pid);
      const cgroup = `${pod.cgroup}/a`;
      const move = (to: string) => writeFileSync(join(v2, to, "cgroup.procs"), String(init));

      mkdirSync(join(v2, cgroup, "below"));
      move(`${cgroup}/below`);
      await failOneClone();
      expect(await pod.execOutput("a", "grep", "^0::", "/proc/self/cgroup")).toBe(`0::${cgroup}/below\n`);

      move("/");
      await failOneClone();
      await expect(outcome(pod.exec("a", ["true"]))).rejects.toMatchObject({ kind: "system", errno: busy });
      expect(await pod.execOutput("a", "grep", "^0::", "/proc/self/cgroup")).toBe(`0::${cgroup}\n`);
      move(cgroup);
    });
  },
);

test("a thousand execs leak no descriptor, zombie or memory", async () => {
  await withContainer(async (pod) => {
    const round = async (count: number) => {
      for (let i = 0; i < count; i += 4) {
        const calls = [0, 1, 2, 3].map((at) => pod.exec("a", ["true"], { tty: at === 3 }));
        for (const call of calls) expect(await outcome(call)).toEqual({ exit_code: 0, signal: 0 });
        await Promise.all(calls.map((call) => call.ended()));
      }
    };
    await round(40);
    await sleep(50);
    const before = descriptorsOf(pod.pid);
    await round(1000);
    await until("descriptors are closed", () => descriptorsOf(pod.pid) <= before);
    const children = readFileSync(`/proc/${pod.pid}/task/${pod.pid}/children`, "utf8").trim().split(" ");
    expect(children.length).toBe(1);
  });
}, 120_000);

test("clients that vanish at any moment leave nothing running", async () => {
  await withContainer(async (pod) => {
    for (let delay = 0; delay < 30; delay += 1) {
      const call = pod.exec("a", ["sleep", "88888"], { stdin: delay % 2 === 0, tty: delay % 3 === 0 });
      await sleep(delay / 3);
      call.socket.destroy();
    }
    await until("all are dead", () => !commands().includes("sleep\0" + "88888\0"));
    await until(
      "all are reaped",
      () => readFileSync(`/proc/${pod.pid}/task/${pod.pid}/children`, "utf8").trim().split(" ").length === 1,
    );
  });
});

test("a terminal is hung up when its client disconnects: a job that ignores SIGHUP survives, the command itself is killed", async () => {
  await withContainer(async (pod) => {
    const job = "(trap '' HUP; exec sleep 77777) & trap 'echo told >/tmp/told; exit' HUP; echo ready; read x";
    const deaf = "trap '' HUP; echo ready; sleep 77778; sleep 77778";
    const calls = [job, deaf].map((script) => pod.exec("a", ["sh", "-c", script], { tty: true, stdin: true }));
    await Promise.all(calls.map((call) => call.until(() => call.output().includes("ready"))));
    await until("the job runs", () => commands().includes("sleep\0" + "77777\0"));
    for (const call of calls) call.socket.destroy();
    await until("the deaf one is dead", () => !commands().includes("sleep\0" + "77778\0"));
    expect(await pod.execOutput("a", "cat", "/tmp/told")).toBe("told\n");
    expect(commands()).toContain("sleep\0" + "77777\0");
    expect(await pod.execOutput("a", "sh", "-c", "ls /dev/pts")).toBe("ptmx\n");
  });
});

test("no descriptor of the monitor reaches an exec'd process", async () => {
  await withContainer(async (pod) => {
    const listing = await pod.execOutput("a", "sh", "-c", "ls -l /proc/self/fd | sed -n 's/.* -> //p'");
    const targets = listing.trim().split("\n");
    expect(targets.length).toBeGreaterThanOrEqual(3);
    for (const target of targets) expect(target).toMatch(/^(pipe:|\/dev\/null|\/proc\/\d+\/fd)/);
    expect(readlinkSync(`/proc/${pod.pid}/fd/2`)).toContain("monitor.log");
  });
});

test("port_forward connects to a port of the pod, over IPv4 and IPv6, and half-closes", async () => {
  await withContainer(async (pod) => {
    const server =
      "require('net').createServer({allowHalfOpen:true},c=>{c.on('data',d=>c.write('got '+d));c.on('end',()=>c.end(' bye'))})";
    for (const [port, address] of [
      [8080, "127.0.0.1"],
      [8081, "::1"],
    ] as const) {
      await withServer(pod, `${server}.listen(${port},'${address}',()=>console.log('up'))`, async () => {
        const call = pod.call("port_forward", { port });
        await call.frame(Type.started);
        call.send(Type.stdin, "hello");
        await call.until(() => call.output() === "got hello");
        call.send(Type.stdinClose);
        expect(await outcome(call)).toEqual({});
        expect(call.output()).toBe("got hello bye");
      });
    }
    await expect(outcome(pod.call("port_forward", { port: 9 }))).rejects.toMatchObject({ kind: "system", errno: 111 });
  });
});

test("port_forward to a port without a listener fails with the same error without IPv6", async () => {
  await withContainer(async (pod) => {
    const off = "echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6";
    execFileSync("nsenter", [`--net=${pod.directory}/ns/net`, "sh", "-c", off]);
    await expect(outcome(pod.call("port_forward", { port: 9 }))).rejects.toMatchObject({ kind: "system", errno: 111 });
  });
});

test("port_forward transfers 96 MiB each way and blocks a server whose client does not read", async () => {
  await withContainer(async (pod) => {
    const echo =
      "require('net').createServer({allowHalfOpen:true},c=>{c.pipe(c)}).listen(8082,'127.0.0.1',()=>console.log('up'))";
    await withServer(pod, echo, async () => {
      const call = pod.call("port_forward", { port: 8082 });
      await call.frame(Type.started);
      call.socket.pause();
      const size = 96 << 20;
      const sent = call.sendAll(Buffer.alloc(size, "x"));
      // The echo is not read, so nothing more is accepted once the buffers are full; those of TCP grow to many MiB.
      for (let held = 0; held === 0 || held !== call.socket.writableLength; await sleep(300))
        held = call.socket.writableLength;
      call.socket.resume();
      await sent;
      await outcome(call);
      expect(call.bytes(Type.stdout).length).toBe(size);
    });
  });
});

/** Runs a Node.js server inside the pod's network namespace; it prints something when it listens. */
async function withServer(pod: TestPod, script: string, body: () => Promise<void>): Promise<void> {
  const server = spawn("nsenter", [`--net=${pod.directory}/ns/net`, process.execPath, "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(server.stdout, "data");
    await body();
  } finally {
    const gone = once(server, "exit");
    server.kill("SIGKILL");
    await gone;
  }
}

/** The command lines of every process of the host. */
function commands(): string {
  const read = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  };
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(read)
    .join("\n");
}
