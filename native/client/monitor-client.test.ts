// Every call of the client, with a real monitor and real containers.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect, type ExecRequest, loadHost, type MonitorEvent, type SpawnedMonitor } from "../index.ts";
import { leftovers, openDescriptors, soon, TestPods } from "../testing/pods.ts";

const host = loadHost();
let pods: TestPods;
beforeAll(async () => {
  pods = await TestPods.prepare(host);
});
afterAll(async () => {
  await pods.remove();
});

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

describe("a container's life", () => {
  it("goes from start through stop to delete, as reported by watch and state", async () => {
    await pods.withPod(async (pod, { monitor }) => {
      const events: MonitorEvent[] = [];
      const abort = new AbortController();
      const watching = (async () => {
        for await (const event of monitor.watch(abort.signal)) events.push(event);
      })();
      const sleeper = pods.makeContainer(pod, ["sleep", "1000"]);
      const run = await monitor.start(sleeper, soon);
      expect(run).toMatchObject({ state: "running", id: sleeper.id, tty: false });
      expect(readFileSync(`/proc/${run.pid}/cmdline`, "utf8")).toContain("sleep");
      expect(run.startedAt / 1_000_000n).toBeGreaterThan(BigInt(Date.now() - 60_000));
      expect(await monitor.state(soon)).toEqual([run]);

      const exited = await monitor.stop(sleeper.id, 15, 100, soon);
      expect(exited).toMatchObject({ state: "exited", id: sleeper.id, exitCode: 137, signal: 9, oomKilled: false });
      expect(exited.finishedAt).toBeGreaterThan(exited.startedAt);
      await expect
        .poll(() => events.find((event) => event.type === "exited"))
        .toEqual({ type: "exited", container: exited });
      expect(events[0]).toEqual({ type: "state", containers: [] });

      await monitor.delete(sleeper.id, soon);
      await expect(monitor.delete(sleeper.id, soon)).rejects.toMatchObject({ code: "NotFound", kind: "not_found" });
      expect(await monitor.state(soon)).toEqual([]);
      abort.abort();
      await watching;
    });
  });

  it("accepts a signal, reopening its log and new resource limits", async () => {
    await pods.withPod(async (pod, { monitor }) => {
      const logPath = join(pod, "container.log");
      const script = "trap 'echo got it; exit 3' USR1; echo up; while :; do sleep 0.05; done";
      const looping = pods.makeContainer(pod, ["sh", "-c", script]);
      await monitor.start({ ...looping, logPath }, soon);
      await expect.poll(() => readFileSync(logPath, "utf8")).toMatch(/stdout F up\n/);
      rmSync(logPath);
      await monitor.reopenLog(looping.id, soon);
      expect(readFileSync(logPath, "utf8")).toBe("");
      await monitor.update(looping.id, { memory: { limit: 64 << 20 } }, soon);
      await monitor.kill(looping.id, 10, soon);
      await expect.poll(() => monitor.state(soon)).toMatchObject([{ state: "exited", exitCode: 3 }]);
      expect(readFileSync(logPath, "utf8")).toMatch(/stdout F got it\n/);
    });
  });

  it("runs with the seccomp filter given at its start, and so do its execs", async () => {
    await pods.withPod(async (pod, { monitor }) => {
      const container = pods.makeContainer(pod, ["sleep", "1000"]);
      const seccompFilter = join(pod, "filter.bpf");
      const refusing = (names: string[], errnoRet: number, args: object[] = []) => {
        return { names, action: "SCMP_ACT_ERRNO", errnoRet, args };
      };
      const toCrypto = { index: 0, op: "SCMP_CMP_EQ", value: 38 }; // AF_ALG
      const syscalls = [refusing(["unshare"], 1), refusing(["clone3"], 38), refusing(["socket"], 97, [toCrypto])];
      const profile = { defaultAction: "SCMP_ACT_ALLOW", syscalls };
      writeFileSync(seccompFilter, await host.compileSeccomp(JSON.stringify(profile)));
      await monitor.start({ ...container, seccompFilter }, soon);
      const { stdout } = await monitor.execSync({ id: container.id, args: ["seccomp-probe"], timeoutMs: 5_000 }, soon);
      expect(stdout.toString()).toMatch(/^unshare_user 1$/m);
      expect(stdout.toString()).toMatch(/^clone3 38$/m);
      expect(stdout.toString()).toMatch(/^socket_38 97$/m);
      expect(stdout.toString()).toMatch(/^thread 0$/m);
      const status = await monitor.execSync(
        { id: container.id, args: ["grep", "Seccomp:", "/proc/1/status"], timeoutMs: 5_000 },
        soon,
      );
      expect(status.stdout.toString()).toMatch(/2\n$/);
    });
  });

  it("fails with the error code for the kind of failure", async () => {
    await pods.withPod(async (pod, { monitor }) => {
      const missing = pods.makeContainer(pod, ["/bin/no-such-command"]);
      const starting = monitor.start(missing, soon);
      await expect(starting).rejects.toMatchObject({ kind: "not_executable", code: "InvalidArgument" });
      const nowhere = { ...missing, bundle: join(pod, "nowhere") };
      await expect(monitor.start(nowhere, soon)).rejects.toMatchObject({ name: "monitorRefused" });
      await expect(monitor.kill("f".repeat(64), 9, soon)).rejects.toMatchObject({ code: "NotFound" });
      expect(await monitor.state(soon)).toEqual([]);
    });
  });
});

describe("in a running container", () => {
  let spawned: SpawnedMonitor;
  let pod: string;
  let id: string;
  beforeAll(async () => {
    pod = pods.makePod();
    spawned = await pods.spawn(pod);
    const container = pods.makeContainer(pod, ["sleep", "1000"]);
    id = container.id;
    await spawned.monitor.start(container, soon);
  });
  afterAll(async () => {
    await spawned.monitor.shutdown(0, soon);
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
  });

  const shell = (script: string, changes: Partial<ExecRequest> = {}): ExecRequest => ({
    id,
    args: ["sh", "-c", script],
    tty: false,
    stdin: false,
    timeoutMs: 0,
    ...changes,
  });

  it("execSync collects both outputs and the exit code", async () => {
    const { stdout, stderr, exitCode } = await spawned.monitor.execSync(shell("echo out; echo err >&2; exit 3"), soon);
    expect([stdout.toString(), stderr.toString(), exitCode]).toEqual(["out\n", "err\n", 3]);
  });

  it("execSync rejects a missing command with InvalidArgument, and a timeout with DeadlineExceeded", async () => {
    const missing = spawned.monitor.execSync({ id, args: ["/none"], timeoutMs: 0 }, soon);
    await expect(missing).rejects.toMatchObject({ kind: "not_executable", code: "InvalidArgument" });
    const begin = performance.now();
    const late = spawned.monitor.execSync({ id, args: ["sleep", "77"], timeoutMs: 200 }, soon);
    await expect(late).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(performance.now() - begin).toBeLessThan(3_000);
    const running = async () => (await spawned.monitor.execSync(shell("ps"), soon)).stdout.toString();
    await expect.poll(running).not.toContain("sleep 77");
  });

  it("execSync keeps reading past its limit, so that the command can exit", async () => {
    // Both at once: the command must not hang because one stream waits for the other.
    const flood = "head -c 40000000 /dev/zero & head -c 40000000 /dev/zero >&2; wait; exit 5";
    const { stdout, stderr, exitCode } = await spawned.monitor.execSync(shell(flood), { timeoutMs: 20_000 });
    expect(exitCode).toBe(5);
    expect(stdout.length + stderr.length).toBeLessThan(16 << 20);
    expect(Math.min(stdout.length, stderr.length)).toBeGreaterThan(8_000_000);
  });

  it("execSync is cancelled by its signal: the process is killed", async () => {
    const abort = new AbortController();
    const call = spawned.monitor.execSync(
      { id, args: ["sleep", "78"], timeoutMs: 0 },
      { ...soon, signal: abort.signal },
    );
    setTimeout(() => abort.abort(), 100);
    await expect(call).rejects.toMatchObject({ code: "Cancelled" });
    const running = async () => (await spawned.monitor.execSync(shell("ps"), soon)).stdout.toString();
    await expect.poll(running).not.toContain("sleep 78");
  });

  it("execSync of `true` is fast, and 500 of them leak nothing", async () => {
    const before = openDescriptors().length;
    const times: number[] = [];
    const hellos: number[] = [];
    for (let i = 0; i < 500; i++) {
      const begin = performance.now();
      await spawned.monitor.execSync({ id, args: ["true"], timeoutMs: 10_000 }, soon);
      times.push(performance.now() - begin);
      const asked = performance.now();
      await spawned.monitor.hello(soon);
      hellos.push(performance.now() - asked);
    }
    // About 2 ms and 0.2 ms on an idle machine.
    expect(median(times)).toBeLessThan(50);
    expect(median(hellos)).toBeLessThan(5);
    await expect.poll(() => openDescriptors().length).toBeLessThanOrEqual(before);
    expect(readdirSync(`/proc/${spawned.pid}/fd`).length).toBeLessThan(40);
  });

  it("exec passes 30 MiB through a process intact, and half-closes", async () => {
    const input = randomBytes(30 << 20);
    const session = await spawned.monitor.exec(shell("cat; echo end >&2", { stdin: true }), soon);
    const [, out, err, outcome] = await Promise.all([
      pipeline(Readable.from(chunks(input)), session.stdin),
      buffer(session.stdout),
      text(session.stderr),
      session.done,
    ]);
    expect(createHash("sha256").update(out).digest("hex")).toBe(createHash("sha256").update(input).digest("hex"));
    expect([err, outcome]).toEqual(["end\n", { exitCode: 0, signal: 0 }]);
  });

  function* chunks(bytes: Buffer): Generator<Buffer> {
    for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
  }

  it("exec blocks a process whose output is not read, but no other process", async () => {
    const slow = await spawned.monitor.exec(shell("head -c 50000000 /dev/zero; touch /tmp/through"), soon);
    await delay(500);
    const { exitCode } = await spawned.monitor.execSync(shell("test -e /tmp/through"), soon);
    expect(exitCode).toBe(1);
    const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${spawned.pid}/status`, "utf8"))?.[1]);
    expect(resident).toBeLessThan(8_000);
    expect(await buffer(slow.stdout)).toHaveLength(50_000_000);
    expect(await slow.done).toEqual({ exitCode: 0, signal: 0 });
  });

  it("exec with a terminal has one output stream and a size, and can be resized", async () => {
    const script = 'stty size; until [ "$(stty size)" = "50 120" ]; do :; done; read line; stty size; echo $line >&2';
    const request = shell(script, {
      tty: true,
      stdin: true,
      columns: 90,
      rows: 33,
    });
    const session = await spawned.monitor.exec(request, soon);
    const first = String((await once(session.stdout, "data"))[0]);
    expect(first).toBe("33 90\r\n");
    const output = text(session.stdout);
    session.resize(120, 50);
    session.stdin.write("typed\n");
    expect(await session.done).toEqual({ exitCode: 0, signal: 0 });
    expect(await output).toMatch(/^(typed\r\n)?50 120\r\ntyped\r\n$/);
  });

  it("exec reports a death by signal, and cancel kills the process", async () => {
    const killed = await spawned.monitor.exec(shell("kill -9 $$"), soon);
    expect(await killed.done).toEqual({ exitCode: 137, signal: 9 });
    const session = await spawned.monitor.exec(shell("sleep 79"), soon);
    session.cancel();
    await expect(session.done).rejects.toMatchObject({ code: "Cancelled" });
    const running = async () => (await spawned.monitor.execSync(shell("ps"), soon)).stdout.toString();
    await expect.poll(running).not.toContain("sleep 79");
  });

  it("exec of a missing command rejects before there is a session", async () => {
    const call = spawned.monitor.exec({ ...shell(""), args: ["none"] }, soon);
    await expect(call).rejects.toMatchObject({ kind: "not_executable" });
  });

  it("attach reads and writes the container's own streams, and detaching does not affect the container", async () => {
    const container = pods.makeContainer(pod, ["sh", "-c", "while read line; do echo got $line; done; exit 4"]);
    await spawned.monitor.start({ ...container, stdin: true }, soon);
    const first = await spawned.monitor.attach(container.id, true, soon);
    first.stdin.write("one\n");
    expect(String(await new Promise((resolve) => first.stdout.once("data", resolve)))).toBe("got one\n");
    first.cancel();
    const second = await spawned.monitor.attach(container.id, true, soon);
    second.stdin.end("two\n");
    expect(String((await once(second.stdout, "data"))[0])).toBe("got two\n");
    await spawned.monitor.kill(container.id, 9, soon);
    expect((await second.done).exitCode).toBe(137);
    expect(await text(second.stdout)).toBe("");
  });

  it("port-forward connects to a port of the pod, half-closes, and reports a closed port", async () => {
    const server = await spawned.monitor.exec(shell("nc -l -p 7000 -e cat"), soon);
    await expect
      .poll(async () => (await spawned.monitor.execSync(shell("netstat -ltn"), soon)).stdout.toString())
      .toContain(":7000");
    const connection = await spawned.monitor.portForward(7000, soon);
    const input = randomBytes(5 << 20);
    const output = buffer(connection);
    connection.end(input);
    expect((await output).equals(input)).toBe(true);
    await server.done;
    const refused = { kind: "system", errno: constants.errno.ECONNREFUSED };
    await expect(spawned.monitor.portForward(7001, soon)).rejects.toMatchObject(refused);
    await spawned.monitor.setNetworkSysctls({ "net.ipv6.conf.all.disable_ipv6": "1" }, soon);
    await expect(spawned.monitor.portForward(7001, soon)).rejects.toMatchObject(refused);
  });
});

it("calls to a frozen monitor time out at their deadline", async () => {
  await pods.withPod(async (_pod, { monitor, pid }) => {
    process.kill(pid, "SIGSTOP");
    const begin = performance.now();
    const calls = [monitor.hello({ timeoutMs: 200 }), monitor.state({ timeoutMs: 200 })];
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: "DeadlineExceeded" });
    expect(performance.now() - begin).toBeLessThan(2_000);
    process.kill(pid, "SIGCONT");
    expect((await monitor.hello(soon)).pid).toBe(pid);
  });
});

it("a monitor whose connections are all in use reports busy, and recovers when some are free", async () => {
  await pods.withPod(async (_pod, { monitor }) => {
    const abort = new AbortController();
    const watches = Array.from({ length: 192 }, () => monitor.watch(abort.signal)[Symbol.asyncIterator]());
    for (const watch of watches) expect((await watch.next()).value).toMatchObject({ type: "state" });
    try {
      for (let i = 0; i < 200; i++) {
        await expect(monitor.hello(soon)).rejects.toMatchObject({ code: "ResourceExhausted", name: "monitorRefused" });
      }
    } finally {
      abort.abort();
    }
    for (const watch of watches) expect((await watch.next()).done).toBe(true);
    await expect.poll(() => monitor.hello(soon).catch(() => undefined)).toBeDefined();
  });
});

it("running watches do not retain the pool blocks from which Node.js allocates small buffers", async () => {
  const watches = 100;
  const fillsABlock = Math.floor(Buffer.poolSize / 2) - 1;
  const bytesOfBuffers = () => {
    collect();
    return process.memoryUsage().arrayBuffers;
  };
  await pods.withPod(async (_pod, { monitor }) => {
    const abort = new AbortController();
    const before = bytesOfBuffers();
    for (let n = 0; n < watches; n++) {
      await monitor.watch(abort.signal)[Symbol.asyncIterator]().next();
      for (const _ of [1, 2]) Buffer.allocUnsafe(fillsABlock);
    }
    // V8 frees what it has collected on another thread.
    const most = (watches / 4) * Buffer.poolSize;
    await expect.poll(() => bytesOfBuffers() - before, { timeout: 10_000 }).toBeLessThan(most);
    abort.abort();
  });
});

it("when a monitor is killed, its watches end and it is unreachable", async () => {
  const pod = pods.makePod({
    own_cgroup: false,
    namespaces: { net: "host", ipc: "host", uts: "host", pid: "container" },
  });
  const { monitor, pid } = await pods.spawn(pod);
  const watching = (async () => {
    const types: string[] = [];
    for await (const { type } of monitor.watch(new AbortController().signal)) {
      types.push(type);
      process.kill(pid, "SIGKILL");
    }
    return types;
  })();
  expect(await watching).toEqual(["state"]);
  await expect(monitor.hello(soon)).rejects.toMatchObject({ name: "monitorUnreachable" });
});

it("a monitor that was shut down is unreachable", async () => {
  await pods.withPod(async (_pod, { monitor }) => {
    await monitor.shutdown(0, soon);
    await expect(monitor.hello(soon)).rejects.toMatchObject({ name: "monitorUnreachable", code: "Unavailable" });
  });
});
