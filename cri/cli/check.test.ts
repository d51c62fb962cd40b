// `keelson check` on this machine, and with the properties of hosts that cannot run pods.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { nativePaths } from "../../native/index.ts";
import {
  checkKernel,
  checkLeftovers,
  checkNamespaces,
  checkOverlay,
  checkPrograms,
  checkRoot,
  checkSelinux,
  checkSystemCalls,
} from "./check.ts";

const program = join(import.meta.dirname, "../keelson");
const execute = promisify(execFile);
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-check-"));
});
afterAll(() => rm(directory, { recursive: true }));

test("passes on this machine, and warns about a missing network", async () => {
  const { stdout } = await execute(program, ["check", "--cni-conf-dir", join(directory, "cni")]);
  expect(stdout).toMatch(/^ok +root +uid 0$/m);
  expect(stdout).toMatch(/^ok +system calls +openat2/m);
  expect(stdout).toMatch(/^warn +network .*\n +→ Install a network/m);
  expect(stdout).not.toMatch(/^fail/m);
});

test("names the plugins, the pod and possible leftovers of an abandoned teardown", () => {
  const leftover = {
    pod: "default/web-0",
    sandboxId: "f00d",
    network: "lab",
    plugins: ["portmap"],
    interfaceName: "eth0",
    addresses: ["10.9.9.9"],
    reason: "It said no.",
    givenUp: true,
    file: "/var/lib/keelson/cni/f00d.json",
  };
  expect(checkLeftovers([])).toMatchObject({ verdict: "ok" });
  const finding = checkLeftovers([leftover]);
  expect(finding.verdict).toBe("warn");
  for (const named of ["default/web-0", "f00d", "portmap", "given up", "It said no.", "eth0", "10.9.9.9", "rules"])
    expect(finding.detail).toContain(named);
  expect(finding.remedy).toContain("/var/lib/keelson/cni/f00d.json");
  const retried = checkLeftovers([{ ...leftover, givenUp: false }]);
  expect(retried.detail).toContain("is retried");
  expect(retried.remedy).toContain("keelson serve retries");
});

test.each(["fowner", "setfcap"])("names the capability %s if root does not have it", async (name) => {
  const words = ["--bounding-set", `-${name}`, "--inh-caps", `-${name}`, program, "check"];
  const { code, stdout } = await execute("setpriv", words).catch((error) => error);
  expect(stdout).toMatch(new RegExp(`^fail +capabilities +missing CAP_${name.toUpperCase()}$`, "m"));
  expect(code).toBe(1);
});

test("names a file system that cannot hold a container's writable layer", async () => {
  // As when Keelson runs in a container, or on a live system.
  const parts = ["lower", "upper", "work", "merged"].map((name) => join(directory, name));
  const [lower, upper, work, merged] = parts;
  const mount = `mount -t overlay -o lowerdir=${lower},upperdir=${upper},workdir=${work} overlay ${merged}`;
  const lines = `mkdir ${parts.join(" ")} && ${mount} && exec ${program} check --root ${merged}/not/there/yet`;
  const { code, stdout } = await execute("unshare", ["-m", "sh", "-c", lines]).catch((error) => error);
  expect(stdout).toMatch(/^fail +overlayfs +.*\/merged\/not\/there\/yet on overlayfs\n +→ Set root to /m);
  expect(code).toBe(1);
});

test("reports what fails on a host that cannot run pods", () => {
  expect(checkRoot(1000)).toMatchObject({ verdict: "fail", remedy: expect.stringContaining("as root") });
  expect(checkKernel("5.4.0-200-generic")).toMatchObject({ verdict: "fail" });
  expect(checkKernel("5.11.1")).toMatchObject({ verdict: "fail" });
  expect(checkKernel("5.12.0")).toMatchObject({ verdict: "warn", remedy: expect.stringContaining("6.7") });
  expect(checkKernel("6.1.0-9-amd64")).toMatchObject({ verdict: "warn" });
  expect(checkKernel("6.6.60")).toMatchObject({ verdict: "warn" });
  expect(checkKernel("6.7.0")).toMatchObject({ verdict: "ok" });
  expect(checkSystemCalls("0 T __x64_sys_openat2\n")).toMatchObject({ detail: expect.stringContaining("clone3") });
  expect(checkSystemCalls("0 T __x64_sys_clone3_old\n")).toMatchObject({ detail: expect.stringContaining("clone3") });
  expect(checkSelinux({ kind: "off" })).toMatchObject({ verdict: "ok", detail: "not active" });
  expect(checkSelinux({ kind: "unlabelled", reason: "there is no file" })).toMatchObject({ verdict: "warn" });
  expect(checkOverlay("nodev\ttmpfs\n", "/root", undefined)).toMatchObject({ verdict: "fail" });
  expect(checkNamespaces(["mnt", "pid", "net", "ipc", "uts"])).toMatchObject({ verdict: "warn" });
});

test("names the missing plugin, the refused runtime, and the record of a newer keelson", async () => {
  const file = join(directory, "config.toml");
  const [conf, state] = [join(directory, "net.d"), join(directory, "root/state")];
  await mkdir(conf);
  await mkdir(state, { recursive: true });
  const network = { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "no-such-plugin" }] };
  await writeFile(join(conf, "10.conflist"), JSON.stringify(network));
  const body = JSON.stringify({ kind: "sandbox" });
  const sha256 = createHash("sha256").update(body).digest("hex");
  await writeFile(join(state, `${"a".repeat(64)}.json`), `${JSON.stringify({ version: 99, sha256, body })}\n`);
  const runtime = join(directory, "runc");
  await writeFile(runtime, "#!/bin/sh\necho runc version 1.1.5\n", { mode: 0o755 });
  const lines = [
    `root = "${directory}/root"`,
    `cni.conf_dir = "${conf}"`,
    `[runtime.handlers.old]`,
    `binary = "${runtime}"`,
  ];
  await writeFile(file, lines.join("\n"));
  const { code, stdout } = await execute(program, ["check", "--config", file]).catch((error) => error);
  expect(stdout).toMatch(/^fail +network +lab needs no-such-plugin, not found in .*\n +→ Install the plugins/m);
  expect(stdout).toMatch(/^fail +handlers +The runtime handler old is refused: .* is runc 1\.1\.5/m);
  expect(stdout).toMatch(/^warn +records +1 of pods and containers .*a newer keelson wrote it.*\n +→ .*upgrade again/m);
  expect(code).toBe(1);
});

test("names a default handler that is not configured", async () => {
  const file = join(directory, "default.toml");
  await writeFile(file, 'runtime.default_handler = "kata"');
  const { stdout } = await execute(program, ["check", "--config", file]).catch((error) => error);
  expect(stdout).toMatch(/^fail +handlers +the default handler kata is not configured\n +→ Add it/m);
});

test("names the shared library that a native program needs and that is not installed", async () => {
  const built = nativePaths();
  // Patches the program's list of needed libraries to name one that no host has.
  const bytes = await readFile(built.unpacker);
  const at = bytes.indexOf("libisal.so.2\0");
  expect(at).toBeGreaterThan(0);
  bytes.write("libisal.so.0", at);
  const unpacker = join(directory, "keelson-unpack");
  await writeFile(unpacker, bytes, { mode: 0o700 });
  const finding = await checkPrograms({ ...built, unpacker });
  expect(finding).toMatchObject({ verdict: "fail", remedy: expect.stringContaining("libisal2") });
  expect(finding.detail).toMatch(/keelson-unpack does not run: .*libisal\.so\.0/);
  expect(await checkPrograms(built)).toMatchObject({ verdict: "ok" });
});

test("names the native program that is missing", async () => {
  const monitor = join(directory, "keelson-monitor");
  const finding = await checkPrograms({ ...nativePaths(), monitor });
  expect(finding).toMatchObject({ verdict: "fail", remedy: expect.stringContaining("build:native") });
  expect(finding.detail).toContain(`${monitor} does not run`);
});

const memoryFiles = "/proc/sys/vm/memfd_noexec";
test.runIf(existsSync(memoryFiles))("names the sysctl that prevents the monitor from starting", async () => {
  // The sysctl is per PID namespace.
  const lines = `echo 2 >${memoryFiles} && exec ${program} check`;
  const words = ["--pid", "--fork", "--mount-proc", "sh", "-c", lines];
  const { code, stdout } = await execute("unshare", words).catch((error) => error);
  expect(stdout).toMatch(/^fail +native programs +.*keelson-monitor cannot be executed.*\n +→ .*memfd_noexec/m);
  expect(code).toBe(1);
});

test("does not blame a sysctl if the monitor cannot be copied to memory for another reason", async () => {
  const { stdout } = await execute("sh", ["-c", `trap "" XFSZ; ulimit -f 10; exec ${program} check`]).catch(
    (error) => error,
  );
  expect(stdout).toMatch(
    /^fail +native programs +.*keelson-monitor cannot be executed.*File too large.*\n +→ Remove the limit/m,
  );
});
