// The OCI handler with the real runc and crun: the lifecycle of a container through their binaries.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Type } from "./call.ts";
import { isAlive, type TestPod, until, withPod } from "./monitor-pod.ts";

const sigkill = 9;
const sigterm = 15;

function handler(pod: TestPod, binary: string): { binary: string; root: string } {
  return { binary, root: join(pod.directory, "runtime") };
}

function bundleFiles(pod: TestPod, id: string): string[] {
  return readdirSync(join(pod.directory, "containers", id)).sort();
}

describe.each(["/usr/sbin/runc", "/usr/bin/crun"].filter(existsSync))("%s", (binary) => {
  test("start, log, exec, stop, delete", async () => {
    await withPod({}, async (pod) => {
      const options = { handler: handler(pod, binary), stdin: true };
      const script = "trap 'echo asked; exit 5' TERM; echo out; echo err >&2; while :; do sleep 0.02; done";
      const started = await pod.run("a", { ...options, args: ["sh", "-c", script] });
      expect(started).toMatchObject({ id: "a", state: "running" });
      const command = () => readFileSync(`/proc/${started.pid}/cmdline`, "utf8");
      await until("the pid is the command's", () => command().includes("trap")); // the binaries do not wait for execve
      await until("it has written", () => pod.logLines("a").length === 2);
      expect([...pod.logLines("a")].sort()).toEqual(["stderr F err", "stdout F out"]);

      const exec = pod.exec("a", ["sh", "-c", "cat; echo err >&2; exit 7"], { stdin: true });
      await exec.frame(Type.started);
      await exec.sendAll(Buffer.from("input"));
      expect(await exec.frame(Type.reply)).toEqual({ exit_code: 7, signal: 0 });
      expect(exec.output()).toBe("input");
      expect(exec.bytes(Type.stderr).toString()).toBe("err\n");
      await expect(pod.exec("a", ["nothing"]).frame(Type.reply)).rejects.toMatchObject({ kind: "not_executable" });
      expect((await pod.execOutput("a", "hostname")).trim()).toBe("test-0");

      const stopped = await pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 20_000 });
      expect(stopped).toMatchObject({ exit_code: 5, signal: 0 });
      expect(pod.logLines("a")).toContain("stdout F asked");
      await pod.ask("delete", { id: "a" });
      // The binary that sent the signal may exit after the container, and its log is removed then.
      await expect.poll(() => bundleFiles(pod, "a")).toEqual(["config.json", "rootfs", "rootfs.json", "upper", "work"]);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(pod.directory, "containers"));
    });
  });

  test("terminals of container and exec", async () => {
    await withPod({}, async (pod) => {
      const args = ["sh", "-c", "tty; read x; stty size; exit 8"];
      await pod.run("a", { handler: handler(pod, binary), args, tty: true, stdin: true });
      const call = pod.call("attach", { id: "a", stdin: true });
      await call.frame(Type.started);
      const exec = pod.exec("a", ["sh", "-c", "echo $TERM; stty size; read x; exit 6"], {
        tty: true,
        stdin: true,
        columns: 81,
        rows: 25,
      });
      await exec.frame(Type.started);
      exec.resize(82, 26);
      exec.send(Type.stdin, "x\n");
      expect(await exec.frame(Type.reply)).toEqual({ exit_code: 6, signal: 0 });
      expect(exec.output()).toContain("xterm\r\n");
      const script = "trap 'echo told >/tmp/told; exit' HUP; echo ready; read x";
      const left = pod.exec("a", ["sh", "-c", script], { tty: true, stdin: true });
      await left.until(() => left.output().includes("ready"));
      left.socket.destroy();
      const told = "for i in $(seq 500); do [ -s /tmp/told ] && break; sleep 0.02; done; cat /tmp/told";
      expect(await pod.execOutput("a", "sh", "-c", told), "its client is gone: it was hung up").toBe("told\n");
      await pod.ask("resize", { id: "a", columns: 132, rows: 43 });
      call.send(Type.stdin, "go\n");
      expect(await call.frame(Type.reply)).toEqual({ exit_code: 8 });
      expect(call.output()).toContain("43 132");
      expect(bundleFiles(pod, "a")).toEqual(["config.json", "rootfs", "rootfs.json", "upper", "work"]);
    });
  });

  test("a command that does not exist fails the start and leaves nothing but an empty log", async () => {
    await withPod({}, async (pod) => {
      const options = { handler: handler(pod, binary), args: ["/bin/nothing"] };
      const failure = await pod.run("a", options).catch((error: unknown) => error);
      expect(failure).toMatchObject({ kind: "not_executable" });
      expect(pod.logLines("a")).toEqual([]);
      expect(await pod.ask("state")).toEqual({ containers: [] });
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(pod.directory, "containers"));
      expect(await pod.run("a", { ...options, args: ["sleep", "100000"] })).toMatchObject({ state: "running" });
    });
  });

  test("a short-lived container, SIGKILL, OOM, a cancelled exec", async () => {
    await withPod({}, async (pod) => {
      const options = { handler: handler(pod, binary) };
      await pod.run("short", { ...options, args: ["sh", "-c", "echo done; exit 3"] });
      expect(await pod.exited("short")).toMatchObject({ exit_code: 3 });
      expect(pod.logLines("short")).toEqual(["stdout F done"]);
      const hog = ["sh", "-c", "sleep 0.2; exec tail -c 200m /dev/zero"];
      await pod.run("hog", { ...options, args: hog, memoryBytes: 32 << 20 });
      expect(await pod.exited("hog")).toMatchObject({ exit_code: 137, signal: sigkill, oom_killed: true });
      await pod.run("a", options);
      const exec = pod.exec("a", ["sleep", "100000"]);
      const { pid } = await exec.frame(Type.started);
      exec.socket.destroy();
      await until("the exec is dead", () => !isAlive(pid));
      await pod.ask("kill", { id: "a", signal: sigkill });
      expect(await pod.exited("a")).toMatchObject({ signal: sigkill });
    });
  });
});

test("a binary that is missing, or fails with its own message", async () => {
  await withPod({}, async (pod) => {
    await expect(pod.run("a", { handler: handler(pod, "/no/such/runtime") })).rejects.toMatchObject({ errno: 2 });
    const failing = join(pod.directory, "failing");
    writeFileSync(failing, '#!/bin/sh\n[ "$7" = delete ] || { echo "boom 42" >&2; exit 1; }\n', { mode: 0o755 });
    await expect(pod.run("a", { handler: handler(pod, failing) })).rejects.toThrow("boom 42");
    expect(await pod.ask("state")).toEqual({ containers: [] });
  });
});

test.each([
  ["one line", '{"msg":"an earlier one","level":"warning"}\n{"msg":"reason 43","level":"error"}\n'],
  // The format of crun 1.28.
  ["several lines", '{\n  "msg": "reason 43",\n  "level": "error"\n}\n'],
])("the error message is the runtime's last log entry, on %s", async (_lines, log) => {
  await withPod({}, async (pod) => {
    const [failing, entries] = [join(pod.directory, "failing"), join(pod.directory, "entries")];
    writeFileSync(entries, log);
    writeFileSync(failing, `#!/bin/sh\n[ "$7" = delete ] || { cat ${entries} > "$4"; exit 1; }\n`, { mode: 0o755 });
    await expect(pod.run("a", { handler: handler(pod, failing) })).rejects.toThrow(/create: reason 43/);
  });
});
