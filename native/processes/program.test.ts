// Misbehaving programs: they hang, ignore signals, leave children, write too much or exit early.

import { execFileSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { type ProgramOptions, runProgram, startProgram, stderrLimit } from "./program.ts";

const never = new AbortController().signal;
const directory = mkdtempSync(join(tmpdir(), "keelson-program-"));
afterAll(() => rmSync(directory, { recursive: true }));

function sh(
  script: string,
  signal = never,
  options: Partial<Omit<ProgramOptions, "stdin">> & { readonly input?: string } = {},
) {
  return runProgram("/bin/sh", ["-c", script], signal, { stdout: { limit: 1000 }, ...options });
}

function isAlive(pid: number): boolean {
  try {
    // A zombie has no command line: it waits for its parent, which is another process.
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

test("returns the exit status, stdout and stderr; passes stdin, directory and environment", async () => {
  const end = await sh('cat; pwd; echo "$WORD" >&2; exit 3', never, { input: "in ", cwd: "/", env: { WORD: "env" } });
  expect(end).toEqual({ code: 3, signal: null, stdout: "in /\n", stderr: "env\n", tooLong: false });
});

test("output is read even if the event loop was blocked past the time limit for the pipes", async () => {
  const stand = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  const end = await new Promise((resolve) => {
    setTimeout(() => {
      resolve(sh("echo said"));
      // Long enough for it to exit before it is watched; then, once that is known, for the wait to be over.
      stand(500);
      setImmediate(stand, 2_500);
    });
  });
  expect(end).toMatchObject({ code: 0, stdout: "said\n" });
});

test("reports which signal killed it", async () => {
  expect(await sh("kill -TERM $$")).toMatchObject({ code: null, signal: "SIGTERM" });
});

test("a program that does not read its long stdin is judged by its exit code", async () => {
  expect(await sh("exit 5", never, { input: "x".repeat(1 << 20) })).toMatchObject({ code: 5 });
});

test("a program that cannot be started rejects with the error of the start", async () => {
  await expect(runProgram("/no/such/program", [], never, { stdout: { limit: 1 } })).rejects.toMatchObject({
    code: "ENOENT",
  });
  await expect(runProgram("/bin/true", ["x".repeat(4 << 20)], never, { stdout: { limit: 1 } })).rejects.toMatchObject({
    code: "E2BIG",
  });
});

test("aborted before: is not started", async () => {
  const mark = join(directory, "mark");
  await expect(sh(`touch ${mark}`, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
  expect(() => readFileSync(mark)).toThrow("ENOENT");
});

test("aborted: a program that ignores signals is killed with its children, and the reason is thrown", async () => {
  const file = join(directory, "pids");
  const caller = new AbortController();
  const script = `trap '' TERM INT HUP; sleep 1000 & echo $$ $! > ${file}.new; mv ${file}.new ${file}; wait; sleep 1000`;
  const running = sh(script, caller.signal);
  const pids = await eventually(() => readFileSync(file, "utf8").trim().split(" ").map(Number));
  expect(pids.map(isAlive)).toEqual([true, true]);
  caller.abort(new Error("gone"));
  await expect(running).rejects.toThrow("gone");
  await eventually(() => expect(pids.map(isAlive)).toEqual([false, false]));
});

test("aborted after: changes nothing", async () => {
  const caller = new AbortController();
  expect(await sh("echo done", caller.signal)).toMatchObject({ code: 0, stdout: "done\n" });
  caller.abort(new Error("gone"));
});

test("a program that exceeds the stdout limit is killed; the output up to the limit is kept", async () => {
  const end = await sh("yes");
  expect(end).toMatchObject({ code: null, signal: "SIGKILL", tooLong: true });
  expect(end.stdout).toBe("y\n".repeat(500));
  expect(await sh("head -c 1000 /dev/zero")).toMatchObject({ code: 0, tooLong: false });
});

test("the end of a long stderr is kept, and the writer is not blocked", async () => {
  const end = await sh("head -c 10000000 /dev/zero >&2; echo last words >&2");
  expect(end).toMatchObject({ code: 0, tooLong: false });
  expect(end.stderr).toHaveLength(stderrLimit);
  expect(end.stderr.endsWith("last words\n")).toBe(true);
});

test("a child that keeps the pipes open delays nothing, and keeps running unless killsChildren is set", async () => {
  const begun = performance.now();
  const left = await sh("sleep 1000 & echo $!");
  expect(left.code).toBe(0);
  expect(performance.now() - begun).toBeLessThan(10_000);
  const pid = Number(left.stdout);
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, "SIGKILL");

  const killed = await sh("sleep 1000 & echo $!", never, { killsChildren: true });
  await eventually(() => expect(isAlive(Number(killed.stdout))).toBe(false));
});

test("stdout can go to a descriptor", async () => {
  const file = join(directory, "out");
  const fd = openSync(file, "w");
  expect(await sh("head -c 5000 /dev/zero", never, { stdout: { fd } })).toMatchObject({ code: 0, stdout: "" });
  expect(readFileSync(file)).toHaveLength(5000);
});

test("killing twice or after the exit does nothing", async () => {
  const program = startProgram("/bin/sleep", ["1000"], { stdout: { limit: 1 } });
  program.kill();
  program.kill();
  expect(await program.end).toMatchObject({ code: null, signal: "SIGKILL" });
  program.kill();
});

test("without free descriptors it rejects, throws nothing, and does not crash without an error listener", () => {
  const script = join(directory, "starved.ts");
  writeFileSync(
    script,
    `import { openSync } from "node:fs";
     import { runProgram, startProgram } from ${JSON.stringify(join(import.meta.dirname, "program.ts"))};
     // Loads everything that is needed, as in a running daemon.
     await runProgram("/bin/true", [], new AbortController().signal, { stdout: { limit: 1 } });
     try { for (;;) openSync("/dev/null", "r"); } catch {}
     const unwatched = startProgram("/bin/true", [], { stdin: "pipe", stdout: { limit: 1 } });
     unwatched.kill();
     const program = startProgram("/bin/true", [], { stdin: "pipe", stdout: { limit: 1 } });
     await program.end.catch((error) => process.stdout.write(error.code + "\\n"));`,
  );
  const words = ["-c", 'ulimit -n 40; exec "$0" "$1"', process.execPath, script];
  expect(execFileSync("sh", words, { encoding: "utf8" })).toBe("EMFILE\n");
});

async function eventually<Result>(look: () => Result): Promise<Result> {
  for (let tries = 200; ; tries -= 1) {
    try {
      return look();
    } catch (error) {
      if (tries === 0) throw error;
      await sleep(20);
    }
  }
}
