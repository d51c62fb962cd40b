// A container's lifecycle in the monitor: start, exit, stop, exit records, shutdown.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { sandboxHierarchies } from "../../testing/sandbox-hierarchies.ts";
import { Type } from "./call.ts";
import { isAlive, monitorBinary, spawnMonitor, type TestPod, until, withPod } from "./monitor-pod.ts";

const second = 1_000_000_000n;
const sigkill = 9;
const sigterm = 15;

function record(pod: TestPod, id: string): unknown {
  return JSON.parse(readFileSync(join(pod.directory, "exits", `${id}.json`), "utf8"));
}

test("however short a container is, it does not finish before it has started", async () => {
  await withPod({}, async (pod) => {
    const ids = Array.from({ length: 40 }, (_, index) => `c${index}`);
    await Promise.all(ids.map(async (id) => await pod.run(id, { args: ["true"] })));
    for (const { started_at, finished_at } of await Promise.all(ids.map(async (id) => await pod.exited(id))))
      expect(BigInt(String(finished_at))).toBeGreaterThanOrEqual(BigInt(String(started_at)));
  });
});

test("a container starts, exits, and is deleted", async () => {
  await withPod({}, async (pod) => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const started = await pod.run("a", { args: ["sh", "-c", "exit 3"] });
    expect(started).toMatchObject({ id: "a", state: "running", tty: false });
    const exited = await pod.exited("a");
    expect(exited).toMatchObject({ id: "a", state: "exited", exit_code: 3, signal: 0, oom_killed: false });
    expect(BigInt(String(exited.started_at))).toBeGreaterThan(before - second);
    expect(BigInt(String(exited.finished_at))).toBeGreaterThanOrEqual(BigInt(String(exited.started_at)));
    expect(record(pod, "a")).toEqual(exited);
    expect(await pod.ask("state")).toEqual({ containers: [exited] });
    expect(await pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 1000 })).toEqual(exited);
    await expect(pod.ask("kill", { id: "a", signal: sigterm })).rejects.toMatchObject({ kind: "state" });
    await expect(pod.run("a", {})).rejects.toMatchObject({ kind: "exists" });
    await pod.ask("delete", { id: "a" });
    expect(readdirSync(join(pod.directory, "exits"))).toEqual([]);
    expect(await pod.ask("state")).toEqual({ containers: [] });
    await expect(pod.ask("delete", { id: "a" })).rejects.toMatchObject({ kind: "not_found" });
    expect(await pod.run("a", {})).toMatchObject({ state: "running" });
  });
});

test("containers and execs ignore no signal: a command whose reader has closed the pipe dies", async () => {
  await withPod({}, async (pod) => {
    const ignored = (status: string) => /^SigIgn:\t(.*)$/m.exec(status)?.[1];
    expect(
      ignored(readFileSync(`/proc/${pod.pid}/status`, "utf8")),
      "the monitor itself ignores SIGPIPE and SIGXFSZ",
    ).toBe("0000000001001000");
    const { pid } = await pod.run("a", {});
    expect(ignored(readFileSync(`/proc/${pid}/status`, "utf8"))).toBe("0000000000000000");
    expect(ignored(await pod.execOutput("a", "cat", "/proc/self/status"))).toBe("0000000000000000");
  });
});

test("containers and execs may use every processor, although the monitor is bound to one", async () => {
  await withPod({}, async (pod) => {
    const allowed = (status: string) => /^Cpus_allowed_list:\t(.*)$/m.exec(status)?.[1];
    const all = allowed(readFileSync("/proc/self/status", "utf8"));
    execFileSync("taskset", ["-pc", "0", String(pod.pid)]);
    const { pid } = await pod.run("a", {});
    expect(allowed(readFileSync(`/proc/${pid}/status`, "utf8"))).toBe(all);
    expect(allowed(await pod.execOutput("a", "cat", "/proc/self/status"))).toBe(all);
  });
});

test("a container may dump core, whatever soft limit the monitor was started with", async () => {
  const limits = (pid: unknown) =>
    /^Max core file size +(\S+) +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"));
  const own = limits("self");
  execFileSync("prlimit", ["--core=0:", "--pid", String(process.pid)]);
  try {
    await withPod({}, async (pod) => {
      const [, soft, hard] = limits((await pod.run("a", {})).pid) ?? [];
      expect(soft).toBe(hard);
      expect(hard).toBe(own?.[2]);
    });
  } finally {
    execFileSync("prlimit", [`--core=${own?.[1]}:`, "--pid", String(process.pid)]);
  }
});

test("a failed start leaves nothing but an empty log and can be retried", async () => {
  await withPod({}, async (pod) => {
    await expect(pod.run("a", { args: ["/bin/nothing"] })).rejects.toMatchObject({ kind: "not_executable" });
    expect(pod.logLines("a")).toEqual([]);
    expect(await pod.ask("state")).toEqual({ containers: [] });
    for (const hierarchy of ["memory", "unified"]) {
      expect(existsSync(join("/sys/fs/cgroup", hierarchy, pod.cgroup, "a"))).toBe(false);
    }
    await expect(pod.ask("start", { id: "b", bundle: "/nowhere" })).rejects.toMatchObject({ errno: 2 });
    await expect(pod.ask("start", { id: "../b", bundle: "/x" })).rejects.toMatchObject({ kind: "invalid" });
    await expect(pod.ask("start", { id: "b", bundle: "x" })).rejects.toMatchObject({ kind: "invalid" });
    const request = pod.prepare("c", {});
    await expect(pod.ask("start", { ...request, log_path: "/proc/nowhere/c.log" })).rejects.toThrow("/proc/nowhere");
    await pod.run("a", {});
  });
});

test("stop sends the signal and waits for the exit", async () => {
  await withPod({}, async (pod) => {
    const loop = "echo ready; while :; do sleep 0.02; done";
    await pod.run("a", { args: ["sh", "-c", `trap 'echo asked; exit 5' TERM; ${loop}`] });
    await until("the trap is set", () => pod.logLines("a").includes("stdout F ready"));
    const stopped = await pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 20_000 });
    expect(stopped).toMatchObject({ state: "exited", exit_code: 5, signal: 0 });
    expect(pod.logLines("a")).toEqual(["stdout F ready", "stdout F asked"]);
  });
});

test("stop kills at its deadline, which later calls can only shorten", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done"] });
    await until("the trap is set", () => pod.logLines("a").includes("stdout F ready"));
    const begun = performance.now();
    const calls = [60_000, 300, 40_000, 600].map((timeout_ms) =>
      pod.ask("stop", { id: "a", signal: sigterm, timeout_ms }),
    );
    for (const state of await Promise.all(calls)) expect(state).toMatchObject({ exit_code: 137, signal: sigkill });
    expect(performance.now() - begun).toBeGreaterThan(290);
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(pod.logLines("a")).toEqual(["stdout F ready", "stdout F asked"]);

    await pod.run("b", {});
    expect(await pod.ask("stop", { id: "b", signal: sigterm, timeout_ms: 0 })).toMatchObject({ signal: sigkill });
    await pod.run("c", {});
    await pod.ask("kill", { id: "c", signal: sigkill });
    expect(await pod.exited("c")).toMatchObject({ exit_code: 137, signal: sigkill, oom_killed: false });
  });
});

test("a frozen container is killed at the deadline, including cgroups that it has frozen inside its own", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sh", "-c", "sleep 1000 & sleep 1000"] });
    const freezer = join("/sys/fs/cgroup/freezer", pod.cgroup, "a");
    const directory = existsSync(freezer) ? freezer : join("/sys/fs/cgroup", pod.cgroup, "a");
    const freeze = (at: string) =>
      existsSync(join(at, "freezer.state"))
        ? writeFileSync(join(at, "freezer.state"), "FROZEN")
        : writeFileSync(join(at, "cgroup.freeze"), "1");
    const inner = join(directory, "inner");
    mkdirSync(inner);
    const [, second = ""] = readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n");
    writeFileSync(join(inner, "cgroup.procs"), second);
    freeze(inner);
    freeze(directory);
    const began = performance.now();
    const stopped = await pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 200 });
    expect(stopped).toMatchObject({ state: "exited", signal: sigkill });
    expect(performance.now() - began).toBeLessThan(2000);
  });
});

test("processes that a container put 40 cgroups deep, in a path longer than PATH_MAX, are killed and removed with it", async () => {
  const nest = [
    "import os, sys",
    "os.chdir(sys.argv[1])",
    "for name in ['x' * 120] * 40: os.mkdir(name); os.chdir(name)",
    "open('cgroup.procs', 'w').write(sys.argv[2])",
    "frozen = os.path.exists('freezer.state')",
    "open('freezer.state' if frozen else 'cgroup.freeze', 'w').write('FROZEN' if frozen else '1')",
  ].join("\n");
  await withPod({}, async (pod) => {
    const { pid } = await pod.run("a", { args: ["sh", "-c", "sleep 1000000 & wait"] });
    const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    await until("it has a child", () => children() !== "");
    const roots = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    for (const root of roots.filter((path) => existsSync(join(path, pod.cgroup, "a"))))
      execFileSync("python3", ["-c", nest, join(root, pod.cgroup, "a"), children()]);
    const stop = pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 200 });
    expect(await Promise.race([stop, sleep(2000)])).toMatchObject({ state: "exited" });
    expect(await pod.ask("delete", { id: "a" })).toEqual({});
  });
});

test("a stop continues after its caller has hung up", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", {});
    const stop = pod.call("stop", { id: "a", signal: sigterm, timeout_ms: 200 });
    stop.socket.end();
    stop.socket.on("connect", () => setTimeout(() => stop.socket.destroy(), 50));
    expect(await pod.exited("a")).toMatchObject({ signal: sigkill });
  });
});

test("an OOM kill is reported as an event and in the exit record", async () => {
  await withPod({}, async (pod) => {
    const watch = pod.call("watch");
    // A single process: with the two of a pipeline the kernel may kill the shell as well.
    const hog = "tail -c 100m /dev/zero";
    await pod.run("init", { args: ["tail", "-c", "200m", "/dev/zero"], memoryBytes: 16 << 20 });
    expect(await pod.exited("init")).toMatchObject({ exit_code: 137, signal: sigkill, oom_killed: true });
    // A process in its cgroup was killed: other runtimes report that as an OOM kill of the container, however its init
    // exited.
    await pod.run("child", { args: ["sh", "-c", `${hog}; echo $?; exit 9`], memoryBytes: 16 << 20 });
    expect(await pod.exited("child")).toMatchObject({ exit_code: 9, signal: 0, oom_killed: true });
    const events = () => watch.frames.map((frame) => JSON.parse(frame.payload.toString()));
    await watch.until(() => events().some((event) => event.type === "oom" && event.id === "child"));
    expect(events()).toContainEqual({ type: "oom", id: "init" });
    await pod.run("fine", {});
    await pod.ask("kill", { id: "fine", signal: sigkill });
    expect(await pod.exited("fine")).toMatchObject({ oom_killed: false });
    watch.socket.destroy();
  });
});

test("the exit record is written before the exit is reported", async () => {
  await withPod({}, async (pod) => {
    const watch = pod.call("watch");
    await pod.run("a", { args: ["sh", "-c", "sleep 0.05"] });
    const exited = () => watch.frames.some((frame) => frame.payload.includes('"type":"exited"'));
    let early = 0;
    watch.socket.on("data", () => {
      if (exited() && !existsSync(join(pod.directory, "exits/a.json"))) early += 1;
    });
    await watch.until(exited);
    expect(early).toBe(0);
    expect(readdirSync(join(pod.directory, "exits"))).toEqual(["a.json"]);
  });
});

test("resources are updated", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { memoryBytes: 64 << 20 });
    await pod.ask("update", { id: "a", resources: { memory: { limit: 32 << 20, swap: 32 << 20 } } });
    expect(readFileSync(`/sys/fs/cgroup/memory${pod.cgroup}/a/memory.limit_in_bytes`, "utf8").trim()).toBe(
      `${32 << 20}`,
    );
    await expect(
      pod.ask("update", { id: "a", resources: { memory: { limit: 4096, swap: 4096 } } }),
    ).rejects.toMatchObject({ errno: 16 });
    expect(readFileSync(`/sys/fs/cgroup/memory${pod.cgroup}/a/memory.limit_in_bytes`, "utf8").trim()).toBe(
      `${32 << 20}`,
    );
    // The kernel never accepts a limit of memory plus swap below that of memory.
    const limits = () =>
      ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map((file) =>
        Number(readFileSync(`/sys/fs/cgroup/memory${pod.cgroup}/a/${file}`, "utf8")),
      );
    await pod.ask("update", { id: "a", resources: { memory: { limit: 128 << 20, swap: 128 << 20 } } });
    expect(limits()).toEqual([128 << 20, 128 << 20]);
    await pod.ask("update", { id: "a", resources: { memory: { limit: -1 } } });
    expect(Math.min(...limits())).toBeGreaterThan(2 ** 60);
  });
});

test("shutdown stops running containers, and kills them after the grace period", async () => {
  await withPod({}, async (pod) => {
    const polite = await pod.run("polite", {
      args: ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"],
    });
    const deaf = await pod.run("deaf", {});
    await until("the trap is set", () => pod.logLines("polite").includes("stdout F ready"));
    const exec = pod.exec("deaf", ["sleep", "100000"]);
    await exec.frame(Type.started);
    const replies = await Promise.all([pod.ask("shutdown", { grace_ms: 300 }), pod.ask("shutdown", { grace_ms: 300 })]);
    expect(replies).toEqual([{}, {}]);
    await until("the monitor is gone", () => pod.process.exitCode === 0);
    expect(pod.logLines("polite")).toContain("stdout F bye");
    for (const state of [polite, deaf]) expect(isAlive(state.pid)).toBe(false);
    pod.expectNothingLeft();
    pod.shutdown = async () => {}; // done already
  });
});

test("a sandbox that cannot be created is an ERROR on descriptor 3, with everything undone", async () => {
  const directory = mkdtempSync(join(tmpdir(), "keelson-monitor-bad-"));
  try {
    await expect(spawnMonitor(directory)).rejects.toMatchObject({ errno: 2 });
    writeFileSync(join(directory, "sandbox.json"), "{");
    await expect(spawnMonitor(directory)).rejects.toThrow();
    const spec = {
      version: 1,
      id: "0".repeat(64),
      hostname: "h",
      namespaces: { net: "pod", ipc: "pod", uts: "pod", pid: "container" },
      sysctls: { "net.no.such": "1" },
      shm_size: 65536,
      cgroup_hierarchies: sandboxHierarchies(),
      cgroup: "/keelson-test-bad",
      own_cgroup: true,
    };
    writeFileSync(join(directory, "sandbox.json"), JSON.stringify(spec));
    await expect(spawnMonitor(directory)).rejects.toMatchObject({ kind: "invalid" });
    for (const [hostname, reason] of [
      ["h".repeat(65), "longer than 64 bytes"],
      ["h\0", "a NUL character"],
    ]) {
      writeFileSync(join(directory, "sandbox.json"), JSON.stringify({ ...spec, hostname }));
      await expect(spawnMonitor(directory)).rejects.toThrow(reason);
    }
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(directory);
    expect(existsSync("/sys/fs/cgroup/memory/keelson-test-bad")).toBe(false);
    expect(existsSync(join(directory, "monitor.sock"))).toBe(false);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test.skipIf(monitorBinary.includes("sanitize"))("an idle pod among four costs at most 0.2 MB", async () => {
  const kilobytes = (pod: TestPod, field: string) => {
    const text = readFileSync(`/proc/${pod.pid}/smaps_rollup`, "utf8");
    return Number(new RegExp(`^${field}: +(\\d+) kB`, "m").exec(text)?.[1]);
  };
  const withPods = async (pods: TestPod[]): Promise<void> => {
    if (pods.length < 4) return withPod({}, (pod) => withPods([...pods, pod]));
    for (const pod of pods) {
      await pod.run("a", {});
      await pod.execOutput("a", "head", "-c", "3000000", "/dev/zero");
    }
    await until("memory has come back", () => pods.every((pod) => kilobytes(pod, "Pss") <= 200), 5000);
    for (const pod of pods) console.log(`idle: ${kilobytes(pod, "Pss")} kB PSS, ${kilobytes(pod, "Rss")} kB RSS`);
  };
  await withPods([]);
});
