// The process of a container and of an exec, as the kernel shows it from inside and outside: real
// containers on busybox roots, through the plain and the sanitized build of the monitor's sources.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { refuseCalls } from "./seccomp.ts";
import { builds, type Changes, TestPod } from "./setup-pod.ts";

const status = "cat /proc/self/status";
const field = (text: string, name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(text)?.[1]?.trim();

const kernelLog = () => execFileSync("dmesg", { encoding: "utf8", maxBuffer: 64 << 20 });

/** Whether the kernel log has audit records of refusals, which an audit daemon would take. */
function logsRefusals(): boolean {
  const actions = readFileSync("/proc/sys/kernel/seccomp/actions_logged", "utf8");
  return actions.includes("errno") && existsSync("/proc/self/loginuid") && !existsSync("/run/auditd.pid");
}

describe.each(builds)("process setup, $build build", ({ program }) => {
  let pod: TestPod;
  beforeEach(() => {
    pod = new TestPod(program);
  });
  afterEach(async () => {
    expect(await pod.remove()).toEqual([]);
  });

  describe("streams and command", () => {
    test("output, errors and exit code are the command's own", async () => {
      const outcome = await pod.run({ args: ["sh", "-c", "echo out; echo err >&2; exit 7"] });
      expect(outcome.stdout).toBe("out\n");
      expect(outcome.stderr).toBe("err\n");
      expect(outcome.news.find((line) => line.event === "exited")).toMatchObject({ exit_code: 7, signal: 0 });
    });

    test("a death by signal is reported as such", async () => {
      const outcome = await pod.run({ args: ["sh", "-c", "kill -SEGV $$; sleep 5"], ...sharedPid(pod) });
      expect(outcome.news.find((line) => line.event === "exited")).toMatchObject({ exit_code: 139, signal: 11 });
    });

    test("only the descriptors 0, 1 and 2 are open", async () => {
      const listing = await pod.shell("ls /proc/self/fd");
      // 3 is the directory that ls itself reads.
      expect(listing.trim().split(/\s+/)).toEqual(["0", "1", "2", "3"]);
    });

    test("no signal is blocked, and none ignored except those the shell ignores itself", async () => {
      const text = await pod.run({ args: ["cat", "/proc/self/status"] });
      expect(field(text.stdout, "SigBlk")).toBe("0000000000000000");
      expect(field(text.stdout, "SigIgn")).toBe("0000000000000000");
    });

    test.each([
      ["missing in PATH", ["no-such-command"], "No such file or directory"],
      ["missing by path", ["/bin/no-such-command"], "No such file or directory"],
      ["a directory", ["/etc"], "Permission denied"],
      ["not a program", ["/etc/text"], "Exec format error"],
    ])("a command that is %s is not_executable", async (_case, args, words) => {
      writeFileSync(join(pod.layer, "etc/text"), "not a program", { mode: 0o755 });
      const outcome = await pod.run({ args });
      const error = outcome.news.find((line) => line.event === "error");
      expect(error).toMatchObject({ kind: "not_executable" });
      expect(error?.message).toContain(`execute ${args[0]}: ${words}`);
    });

    test("a failed start can be retried on the same directories", async () => {
      const failed = await pod.run({ args: ["late", "echo", "again"] });
      expect(failed.news.at(-1)).toMatchObject({ event: "error" });
      expect(pod.leftovers()).toEqual([]);
      writeFileSync(join(pod.layer, "bin/late"), "#!/bin/busybox sh\n$@\n", { mode: 0o755 });
      const started = await pod.start().end();
      expect(started.stdout).toBe("again\n");
    });

    test("the working directory is entered, and created if it is missing", async () => {
      expect(await pod.shell("pwd; stat -c %a:%u .", { process: { cwd: "/var/lib/new" } })).toBe(
        "/var/lib/new\n755:0\n",
      );
    });

    test("the umask is 022", async () => {
      expect(await pod.shell("umask")).toBe("0022\n");
    });

    test("the environment is exactly that of the spec, byte for byte", async () => {
      const env = ["A=1", "B=x=y", "HOME=", "É=ü"];
      const outcome = await pod.run({ args: ["/bin/busybox", "env"], process: { env } });
      expect(Buffer.from(outcome.stdout, "latin1").toString("utf8")).toBe("A=1\nB=x=y\nHOME=\nÉ=ü\n");
    });

    test.each([
      ["the user's line", "a:x:0:0::/a:\nb:x:7:0::/b:/bin/sh\n", "/b"],
      ["a last line without a newline", "b:x:7:0::/b:/bin/sh", "/b"],
      ["the first matching line", "b:x:7:0::/b:\nc:x:7:0::/c:\n", "/b"],
      [
        "a line after invalid ones",
        `:x:7:0::/a:\n#\n\nb:x:7a:0::/b:\nb:x:7::x:/c:\n${"y".repeat(5000)}\nd:x:7:0::/d:`,
        "/d",
      ],
      ["/ for a line that is too long", `b:x:7:0::/${"b".repeat(1100)}:\nc:x:8:0::/c:`, "/"],
      ["/ if the line has none", "b:x:7:0:::", "/"],
      ["/ if there is no line", "a:x:0:0::/a:\n", "/"],
      ["/ if the file is empty", "", "/"],
    ])("without HOME it gets that of /etc/passwd: %s", async (_, passwd, home) => {
      writeFileSync(join(pod.layer, "etc/passwd"), passwd);
      const process = { env: ["A=1"], user: { uid: 7, gid: 0 } };
      const environment = ["/bin/busybox", "env"];
      const started = await pod.run({ args: environment, process });
      const executed = await pod.run({ args: ["/bin/sleep", "1000"], process }, environment);
      expect([started.stdout, executed.stdout]).toEqual([`A=1\nHOME=${home}\n`, `A=1\nHOME=${home}\n`]);
    });

    test.each([
      ["a pipe", "mkfifo"],
      ["an endless device", "mknod c 1 5"],
      ["a link out of the root", "ln -s /proc/self/fd/0"],
      ["a directory", "mkdir"],
    ])("without HOME it gets / if the passwd file is %s", async (_, make) => {
      const [command = "", ...options] = make.split(" ");
      const path = join(pod.layer, "etc/passwd");
      const args = command === "mknod" ? [path, ...options] : [...options, path];
      execFileSync(command, args);
      const outcome = await pod.run({ args: ["/bin/busybox", "env"], process: { env: ["A=1"] } });
      expect(outcome.stdout).toBe("A=1\nHOME=/\n");
    });
  });

  describe("namespaces", () => {
    test("of the pod are joined, the container's own are new, the host's are not visible", async () => {
      pod.write({ args: ["sh", "-c", "echo $$; hostname=$(cat /proc/sys/kernel/hostname); echo $hostname; read end"] });
      const running = pod.start();
      expect(await running.output("setup-test\n")).toBe("1\nsetup-test\n");
      const pid = await running.pid();
      for (const name of ["net", "ipc", "uts"]) {
        expect(readlinkSync(`/proc/${pid}/ns/${name}`)).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
      }
      for (const name of ["pid", "mnt", "cgroup"]) {
        expect(readlinkSync(`/proc/${pid}/ns/${name}`)).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
      }
      await running.end();
    });

    test("the pod's loopback interface is up", async () => {
      expect(await pod.shell("cat /proc/net/dev_snmp6/lo >/dev/null && /bin/busybox ip link show lo")).toContain("UP");
    });

    const id = (container: number, host: number, size: number) => ({ container, host, size });
    test.each([
      ["the host's root", [id(0, 0, 10)]],
      ["a host id twice", [id(0, 1000, 10), id(10, 1009, 10)]],
      ["a container's id twice", [id(0, 1000, 10), id(9, 2000, 10)]],
      ["ids past 32 bits", [id(4294967290, 1000, 10)]],
      ["ids past 64 bits", [id(2 ** 63 - 1024, 2 ** 63 - 1024, 2 ** 63 - 1024)]],
    ])("a user namespace that maps %s is refused", async (_case, mappings) => {
      const right = [id(0, 1000, 10), id(10, 2000, 10)];
      for (const user of [
        { uids: mappings, gids: right },
        { uids: right, gids: mappings },
      ]) {
        const outcome = await pod.run({ sandbox: { user } });
        expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
        expect(outcome.news.at(-1)?.message).toMatch(
          /id mappings? (includes the host's root|overlap|is not a valid range)/,
        );
      }
    });

    test("sysctls of the pod are set in its namespaces, not the host's", async () => {
      const before = readFileSync("/proc/sys/kernel/shmmni", "utf8");
      const script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni";
      const sysctls = { "net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmni": "1234" };
      expect(await pod.shell(script, { sandbox: { sysctls } })).toBe("0\n1234\n");
      expect(readFileSync("/proc/sys/kernel/shmmni", "utf8")).toBe(before);
    });

    test("with a shared PID namespace PID 1 is the pod's own init, which reaps orphans", async () => {
      const script =
        "echo $$; (sleep 0.01 &) ; sleep 0.2; cat /proc/1/status; ls /proc/1/root 2>&1; echo zombies: $(cat /proc/[0-9]*/stat | /bin/busybox grep -c ' Z ')";
      const outcome = await pod.shell(script, {
        ...sharedPid(pod),
      });
      expect(Number(outcome.split("\n")[0])).toBeGreaterThan(1);
      expect(field(outcome, "CapBnd")).toBe("0000000000000000");
      expect(outcome).toContain("/proc/1/root: Permission denied");
      expect(outcome).toContain("zombies: 0");
    });

    test("an exec joins all of the container's namespaces", async () => {
      const list = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done";
      pod.write({ args: ["sh", "-c", `${list}; echo end; exec sleep 20`] });
      const outcome = await pod.start(["sh", "-c", `sleep 0.3; ${list}; echo $PPID`]).end();
      const [own, entered] = outcome.stdout.split("end\n");
      expect(entered).toBe(`${own}0\n`);
    });
  });

  describe("identity", () => {
    test("user, group and supplementary groups are those of the spec", async () => {
      const text = await pod.shell(status, {
        process: { user: { uid: 1000, gid: 2000, additionalGids: [2000, 3000] } },
      });
      expect(field(text, "Uid")).toBe("1000\t1000\t1000\t1000");
      expect(field(text, "Gid")).toBe("2000\t2000\t2000\t2000");
      expect(field(text, "Groups")).toBe("2000 3000");
    });

    test("more groups than a process may have are refused with an error that says so", async () => {
      const additionalGids = Array.from({ length: 65_537 }, (_, gid) => gid);
      const { news } = await pod.run({ process: { user: { uid: 0, gid: 0, additionalGids } } });
      expect(news.at(-1)).toMatchObject({
        event: "error",
        kind: "invalid",
        message: expect.stringContaining("set the groups: a process may have at most 65536 groups"),
      });
    });

    test("ids above 2^31 are kept, above 2^32 - 2 refused", async () => {
      const text = await pod.shell(status, { process: { user: { uid: 4294967294, gid: 0 } } });
      expect(field(text, "Uid")).toMatch(/^4294967294\t/);
      const refused = await pod.run({ process: { user: { uid: 4294967296, gid: 0 } } });
      expect(refused.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
    });

    test("the five capability sets are set, without those that the host lacks", async () => {
      const some = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"];
      // Bit 24 is CAP_SYS_RESOURCE, which development machines do not have.
      const wanted = [...some, "CAP_SYS_RESOURCE"];
      const has = BigInt(`0x${field(readFileSync("/proc/self/status", "utf8"), "CapPrm")}`);
      const mask = ((1n << 0n) | (1n << 10n) | ((1n << 24n) & has)).toString(16).padStart(16, "0");
      const text = await pod.shell(status, {
        process: {
          user: { uid: 1000, gid: 1000 },
          capabilities: {
            bounding: wanted,
            effective: wanted,
            permitted: wanted,
            inheritable: wanted,
            ambient: wanted,
          },
        },
      });
      for (const set of ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]) expect(field(text, set)).toBe(mask);
    });

    test("a non-root user has no inheritable, ambient or effective capabilities, in start and in exec", async () => {
      const capabilities = { bounding: ["CAP_CHOWN"], effective: ["CAP_CHOWN"], permitted: ["CAP_CHOWN"] };
      pod.write({ args: ["sleep", "20"], process: { capabilities, user: { uid: 1000, gid: 1000 } } });
      const outcome = await pod.start(["cat", "/proc/self/status"]).end();
      expect(field(outcome.stdout, "CapInh")).toBe("0000000000000000");
      expect(field(outcome.stdout, "CapAmb")).toBe("0000000000000000");
      expect(field(outcome.stdout, "CapEff")).toBe("0000000000000000");
      expect(field(outcome.stdout, "CapBnd")).toBe("0000000000000001");
    });

    test("no_new_privs follows the spec", async () => {
      expect(field(await pod.shell(status, { process: { noNewPrivileges: true } }), "NoNewPrivs")).toBe("1");
      expect(field(await pod.shell(status, { process: { noNewPrivileges: false } }), "NoNewPrivs")).toBe("0");
    });

    test.each([true, false])("the seccomp filter works, with no_new_privs %s", async (noNewPrivileges) => {
      const text = await pod.shell("/bin/busybox mkdir /tmp/x; cat /proc/self/status", {
        process: { noNewPrivileges, user: { uid: 1000, gid: 1000 } },
        filter: refuseCalls(["mkdir", "mkdirat"]),
      });
      expect(text).toContain("Operation not permitted");
      expect(field(text, "Seccomp")).toBe("2");
    });

    test("with a filter that refuses clone an exec needs no_new_privs, and is refused with a remedy otherwise", async () => {
      const started = async (noNewPrivileges: boolean) =>
        await pod.run({ args: ["/bin/sleep", "100"], process: { noNewPrivileges }, filter: refuseCalls(["clone"]) }, [
          "/bin/cat",
          "/proc/self/status",
        ]);
      expect(field((await started(true)).stdout, "Seccomp")).toBe("2");
      const refused = (await started(false)).news.find((line) => line.event === "exec");
      expect(refused).toMatchObject({ kind: "invalid" });
      expect(refused?.message).toMatch(/refuses clone.*allow them in it, or set allowPrivilegeEscalation to false/);
    });

    test("a spec that asks for seccomp never runs without a filter", async () => {
      const seccomp = { defaultAction: "SCMP_ACT_ALLOW" };
      const without = await pod.run({ linux: { seccomp } });
      expect(without.news.some((line) => line.event === "started")).toBe(false);
      expect(without.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
      expect(without.news.at(-1)?.message).toContain("load the seccomp filter");
      const filtered = await pod.run({ linux: { seccomp }, filter: refuseCalls([]) });
      expect(filtered.news.some((line) => line.event === "exited")).toBe(true);
    });

    test.runIf(logsRefusals())("its flags apply, in an exec too: the kernel logs what it refuses", async () => {
      const logged = (program: string) => kernelLog().includes(`comm="${program}"`);
      const programs = ["s", "e"].map((each) => `busybox-${each}${pod.id.slice(0, 6)}`);
      for (const program of programs) cpSync("/bin/busybox", join(pod.layer, "bin", program));
      const [started = "", executed = ""] = programs;
      const refused = (program: string) => [`/bin/${program}`, "mkdir", "/tmp/x"];
      const changes = (...flags: string[]) => ({
        linux: { seccomp: { defaultAction: "SCMP_ACT_ALLOW", flags } },
        filter: refuseCalls(["mkdir", "mkdirat"]),
      });
      await pod.run({ args: refused(started), ...changes("SECCOMP_FILTER_FLAG_TSYNC") });
      expect(logged(started)).toBe(false);
      await pod.run({ args: refused(started), ...changes("SECCOMP_FILTER_FLAG_LOG") });
      expect(logged(started)).toBe(true);
      await pod.run({ args: ["/bin/sleep", "1000"], ...changes("SECCOMP_FILTER_FLAG_LOG") }, refused(executed));
      expect(logged(executed)).toBe(true);
    });

    test("an invalid filter is refused", async () => {
      const outcome = await pod.run({ filter: Buffer.from("nonsense!") });
      expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
    });

    test("a start and an exec each have their own session keyring, not the host's", async () => {
      const probe = join(pod.layer, "bin/keyring");
      const getKeyringId = "syscall(SYS_keyctl, 0, -3, 0)"; // of the session; keyctl(2)
      const source = `#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n
        int main(void) { return printf("%ld\\n", ${getKeyringId}) < 0; }`;
      execFileSync("g++", ["-x", "c++", "-static", "-o", probe, "-"], { input: source });
      pod.write({ args: ["sh", "-c", "keyring; >/tmp/told; exec sleep 20"] });
      const behind = "until [ -e /tmp/told ]; do sleep 0.01; done; keyring";
      const { stdout } = await pod.start(["sh", "-c", behind]).end();
      const all = [...stdout.trim().split("\n"), execFileSync(probe, { encoding: "utf8" }).trim()];
      expect(all.map(Number).filter((id) => id > 0)).toHaveLength(3);
      expect(new Set(all).size).toBe(3);
    });

    test("oom_score_adj is set if permitted, and otherwise not an error", async () => {
      expect(await pod.shell("cat /proc/self/oom_score_adj", { process: { oomScoreAdj: 500 } })).toBe("500\n");
      const low = Number(await pod.shell("cat /proc/self/oom_score_adj", { process: { oomScoreAdj: -998 } }));
      expect([-998, Number(readFileSync("/proc/self/oom_score_adj", "utf8"))]).toContain(low);
    });
  });

  describe("terminal", () => {
    const terminal = { terminal: true };

    test("is a pty of the container's own devpts, controlling, on /dev/console too", async () => {
      const outcome = await pod.run({
        args: ["sh", "-c", "tty; stat -c %u /dev/pts/0; echo to-console >/dev/console; echo x >/dev/tty"],
        process: { ...terminal, user: { uid: 0, gid: 0 } },
      });
      expect(outcome.stdout).toBe("/dev/pts/0\r\n0\r\nto-console\r\nx\r\n");
    });

    test("belongs to the process's user", async () => {
      const outcome = await pod.run({
        args: ["sh", "-c", "stat -c %u:%g $(tty)"],
        process: { ...terminal, user: { uid: 1000, gid: 1000 } },
      });
      expect(outcome.stdout).toBe("1000:5\r\n");
    });

    test("an exec gets its own", async () => {
      pod.write({ args: ["sleep", "20"], process: terminal });
      const outcome = await pod.start(["sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all"]).end();
      expect(outcome.stdout).toBe("/dev/pts/1\r\nall\r\n");
    });
  });

  test("an exec that fails reports it and does not affect the container", async () => {
    pod.write({ args: ["sleep", "20"] });
    const outcome = await pod.start(["no-such-command"]).end();
    const exec = outcome.news.find((line) => line.event === "exec");
    expect(exec).toMatchObject({ kind: "not_executable" });
    expect(outcome.news.find((line) => line.event === "exited")).toMatchObject({ signal: 9 });
  });
});

function sharedPid(pod: TestPod): Pick<Changes, "sandbox" | "linux"> {
  const namespaces = pod.namespaces().filter((space) => space.type !== "pid");
  return {
    sandbox: { namespaces: { net: "pod", ipc: "pod", uts: "pod", pid: "pod" } },
    linux: { namespaces: [...namespaces, { type: "pid", path: join(pod.podDir, "ns/pid") }] },
  };
}
