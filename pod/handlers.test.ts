// Runtime handlers: which OCI runtime binaries are accepted, based on their version output, and when they are probed.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openHandlers, type RuntimeHandler, vanishedHandler } from "./handlers.ts";
import { judge } from "./runtime-floor.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-handlers-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const november2025 = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"];

test.each([
  ["runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1", ["CVE-2024-21626", ...november2025, "CVE-2026-41579"]],
  ["runc version 1.1.12", [...november2025, "CVE-2026-41579"]],
  ["runc version 1.2.7", [...november2025, "CVE-2026-41579"]],
  ["runc version 1.2.8", ["CVE-2026-41579"]],
  ["runc version 1.3.3", ["CVE-2026-41579"]],
  ["runc version 1.4.0-rc.2", [...november2025, "CVE-2026-41579"]],
  ["runc version 1.4.0-rc.3", ["CVE-2026-41579"]],
  // As packaged by Debian.
  ["runc version 1.4.0~rc2+ds1", [...november2025, "CVE-2026-41579"]],
  ["runc version v1.2.8", ["CVE-2026-41579"]],
  ["runc version 1.4.2", ["CVE-2026-41579"]],
  ["runc version 1.5.0-rc.2+dev", ["CVE-2026-41579"]],
  ["crun version 1.8.1\ncommit: f8a0", ["CVE-2026-47766"]],
  ["crun version 1.27", ["CVE-2026-47766"]],
  ["youki version: 0.5.6\ncommit: 1", ["CVE-2025-62161", "CVE-2025-62596"]],
  ["kata-runtime  : 3.30.0\n   commit   : 0", ["GHSA-2gv2-cffp-j227"]],
  // NVIDIA's wrapper prints runc's version after its own.
  ["NVIDIA Container Runtime version 1.17.8\n\nrunc version 1.2.6", [...november2025, "CVE-2026-41579"]],
])("%j is refused with its advisories", (printed, advisories) => {
  expect(judge(printed)).toMatchObject({ kind: "refused", advisories });
});

test.each([
  "runc version 1.3.6+ds1\nspec: 1.2.1",
  "runc version 1.4.3",
  "runc version 1.5.0-rc.3",
  "runc version 1.5.0",
  "runc version 1.5.2\nspec: 1.3.0",
  "runc version 1.10.0",
  "runc version 2.0.0",
  "crun version 1.28\ncommit: 54f1",
  "crun version 1.30.0.0.0.5-abcd-dirty",
  "youki version: 0.6.0",
  "kata-runtime  : 3.31.0",
  "runsc version release-20260105.0\nspec: 1.1.0-rc.1",
])("%j passes", (printed) => {
  expect(judge(printed)).toEqual({ kind: "passes" });
});

test.each(["", "\n", "crun version UNKNOWN\nspec: 1.0.0"])("%j has no version", (printed) => {
  expect(judge(printed)).toEqual({ kind: "silent" });
});

/** A program that prints a version and features like an OCI runtime. */
async function program(name: string, printed: string): Promise<string> {
  const path = join(directory, name);
  const body = `case "$1" in --version) echo "${printed}";; features) echo '{"mountOptions":["rro"]}';; esac`;
  // Replaced atomically, as by a package upgrade.
  await writeFile(`${path}.new`, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  await rename(`${path}.new`, path);
  return path;
}

async function open(binary: string): Promise<{ handler: RuntimeHandler; lines: string[] }> {
  const lines: string[] = [];
  const handlers = await openHandlers(new Map([["r", binary]]), (level, line, fields) =>
    lines.push(`${level} ${line} ${String(fields?.reason)}`),
  );
  const handler = handlers.get("r");
  if (handler === undefined) throw new Error("no handler r");
  return { handler, lines };
}

test("a refusal names the binary, its version, the advisories, and the releases to install", async () => {
  const binary = await program("runc", "runc version 1.1.5+ds1");
  const { handler, lines } = await open(binary);
  expect(handler.usable).toBe(false);
  const sentence =
    `The runtime handler r is refused: ${binary} is runc 1.1.5+ds1, which lets an image or a container escape to the ` +
    "host (CVE-2024-21626, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579). Install a fixed release " +
    "(the first fixed one of each branch: runc 1.3.6, 1.4.3, 1.5.0-rc.3), or use the handler native.";
  await expect(handler.check()).rejects.toMatchObject({ code: "FailedPrecondition", message: sentence });
  expect(lines).toEqual([`error the runtime handler r is not offered ${sentence}`]);
});

test.runIf(existsSync("/usr/sbin/runc"))("this host's own /usr/sbin/runc is judged by its version", async () => {
  const { handler } = await open("/usr/sbin/runc");
  const verdict = judge(execFileSync("/usr/sbin/runc", ["--version"], { encoding: "utf8" }));
  expect(handler.usable).toBe(verdict.kind === "passes");
});

test("a replaced binary is probed again: a downgrade is refused, an upgrade accepted", async () => {
  const binary = await program("runc", "runc version 1.3.6");
  const { handler } = await open(binary);
  await handler.check();
  expect(handler.features).toEqual({ recursiveReadOnlyMounts: true, userNamespaces: false });
  await program("runc", "runc version 1.3.5");
  await expect(handler.check()).rejects.toMatchObject({ name: "handlerUnsafe" });
  expect(handler).toMatchObject({ usable: false, features: { recursiveReadOnlyMounts: false } });
  await program("runc", "runc version 1.4.3");
  await handler.check();
  expect(handler.usable).toBe(true);
});

test("an unchanged binary is probed once", async () => {
  const binary = join(directory, "counting");
  await writeFile(binary, `#!/bin/sh\necho x >> ${directory}/calls\necho "runc version 1.3.6"\n`, { mode: 0o755 });
  const { handler } = await open(binary);
  const calls = async () => readFile(join(directory, "calls"), "utf8");
  const before = await calls();
  await Promise.all([handler.check(), handler.check(), handler.check()]);
  expect(await calls()).toBe(before);
});

test("a binary that is missing, fails or prints no version is refused, and accepted once fixed", async () => {
  const { handler, lines } = await open(join(directory, "late"));
  await expect(handler.check()).rejects.toThrow("ENOENT");
  await expect(handler.check()).rejects.toThrow("ENOENT");
  expect(lines).toHaveLength(1);
  await program("late", "");
  await expect(handler.check()).rejects.toThrow("it prints no version");
  await writeFile(join(directory, "late"), "#!/bin/sh\nexit 3\n");
  await expect(handler.check()).rejects.toThrow("Command failed");
  await program("late", "crun version 1.28");
  await handler.check();
  expect(handler.usable).toBe(true);
});

test("a handler that is no longer configured starts nothing", async () => {
  const handler = vanishedHandler("gone", ["native", "runc"]);
  await expect(handler.check()).rejects.toMatchObject({ name: "handlerUnknown" });
});

test("a binary whose probe failed for a reason that may pass is probed again, unchanged as it is", async () => {
  const path = await program("runtime", "runc version 1.5.2");
  const busy = join(directory, "busy");
  await writeFile(busy, "");
  const script = await readFile(path, "utf8");
  await writeFile(path, script.replace("\n", `\n[ -e ${busy} ] && exit 1\n`), { mode: 0o755 });
  const { handler } = await open(path);
  expect(handler.usable).toBe(false);
  await expect(handler.check()).rejects.toMatchObject({ name: "handlerBinary" });
  await rm(busy);
  await handler.check();
  expect(handler.usable).toBe(true);
});
