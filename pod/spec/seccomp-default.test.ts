// The default profile and its effect on real processes: compiled by us, and as config.json under runc
// and crun.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadHost } from "../../native/index.ts";
import { seccompProbe as probe } from "../../native/testing/pods.ts";
import { capabilityNames } from "./capabilities.ts";
import table from "./seccomp-default.json" with { type: "json" };
import { defaultSeccompProfile, type OciSeccomp } from "./seccomp-default.ts";

const host = loadHost();
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** The default capabilities of containerd and CRI-O. */
const ordinary = new Set(
  "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    .split(" ")
    .map((name) => `CAP_${name}`),
);

let base: string;
let unfiltered: Map<string, number>;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "keelson-seccomp-"));
  unfiltered = parse(execFileSync(probe, { encoding: "utf8" }));
});
afterAll(() => {
  rmSync(base, { recursive: true, force: true });
});

function parse(output: string): Map<string, number> {
  return new Map(
    output
      .trim()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([name, errno]) => [name ?? "", Number(errno)]),
  );
}

async function underFilter(profile: OciSeccomp): Promise<Map<string, number>> {
  const path = join(base, "filter.bpf");
  writeFileSync(path, await host.compileSeccomp(JSON.stringify(profile)));
  return parse(execFileSync(probe, [path], { encoding: "utf8" }));
}

/** The errno of each probe; "free" for unfiltered ones. */
function verdicts(results: Map<string, number>, ...names: string[]): (number | string | undefined)[] {
  return names.map((name) => (results.get(name) === unfiltered.get(name) ? "free" : results.get(name)));
}

describe("the table", () => {
  const named = (rules: readonly { readonly names: readonly string[] }[]) =>
    rules.flatMap(({ names }) => names.flatMap((line) => line.split(" ")));

  it("decides each system call once, except for different arguments", () => {
    for (const capability of ["", ...capabilityNames]) {
      const { syscalls } = defaultSeccompProfile(new Set([capability]));
      const whole = named(syscalls.filter(({ args }) => args === undefined));
      const byArgument = new Set(named(syscalls.filter(({ args }) => args !== undefined)));
      expect(whole.filter((name, at) => whole.indexOf(name) !== at || byArgument.has(name))).toEqual([]);
    }
  });

  it("names only system calls that libseccomp knows, except those marked as newer", () => {
    const header = (file: string) => readFileSync(`/usr/include/${file}`, "utf8");
    const known = new Set([...header("seccomp-syscalls.h").matchAll(/^#define __SNR_(\w+)/gm)].map(([, name]) => name));
    const version = [...header("seccomp.h").matchAll(/^#define SCMP_VER_M\w+\s+(\d+)$/gm)].map(([, part]) => part);
    const newer = new Map(Object.entries(table.unknownToLibseccomp)).get(version.join("."));
    const unknown = named(table.rules).filter((name) => !known.has(name));
    // A libseccomp that the table does not list may be newer and know some of these, but the rest must be known.
    const listed = named([{ names: newer ?? Object.values(table.unknownToLibseccomp).flat() }]);
    if (newer !== undefined) expect(unknown.toSorted()).toEqual(listed.toSorted());
    expect(unknown.filter((name) => !listed.includes(name))).toEqual([]);
  });

  it("names only capabilities that exist", () => {
    const conditions = table.rules.flatMap(({ when, unless }) => [when, unless]);
    const asked = conditions.flatMap((condition) => condition?.capabilities ?? []);
    expect(asked.filter((name) => !capabilityNames.some((known) => known === name))).toEqual([]);
    expect(asked).toContain("CAP_SYS_ADMIN");
  });

  it("does not depend on the order of the capabilities", () => {
    const one = defaultSeccompProfile(new Set(["CAP_SYS_TIME", "CAP_BPF"]));
    expect(JSON.stringify(defaultSeccompProfile(new Set(["CAP_BPF", "CAP_SYS_TIME"])))).toBe(JSON.stringify(one));
  });

  it("depends on the kernel version: tracing is withheld before 4.8", () => {
    const ptrace = (kernel: string) =>
      defaultSeccompProfile(ordinary, { architecture: "x64", kernel })
        .syscalls.filter(({ names }) => names.includes("ptrace"))
        .map(({ action, errnoRet }) => errnoRet ?? action);
    expect(["3.10.0-1160.el7", "4.7.10"].map(ptrace)).toEqual([[EPERM], [EPERM]]);
    const after = ["4.8", "4.18.0-553.el8", "6.1.0-18-amd64"];
    expect(after.map(ptrace)).toEqual(after.map(() => ["SCMP_ACT_ALLOW"]));
  });

  it("depends on the architecture, and includes the 32-bit ones that the machine's kernel supports", () => {
    const on = (architecture: string) => defaultSeccompProfile(ordinary, { architecture, kernel: "6.1" });
    const allows = (architecture: string, name: string) =>
      on(architecture).syscalls.some(({ names, action }) => action === "SCMP_ACT_ALLOW" && names.includes(name));
    const machines = ["x64", "arm64", "riscv64"];
    expect(machines.map((each) => allows(each, "arch_prctl"))).toEqual([true, false, false]);
    expect(machines.map((each) => allows(each, "arm_fadvise64_64"))).toEqual([false, true, false]);
    expect(machines.map((each) => allows(each, "riscv_flush_icache"))).toEqual([false, false, true]);
    expect(on("x64").architectures).toEqual(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    expect(on("arm64").architectures).toEqual(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
    expect(on("riscv64").architectures).toEqual([]);
  });
});

describe("a container with ordinary capabilities", () => {
  let results: Map<string, number>;
  beforeAll(async () => {
    results = await underFilter(defaultSeccompProfile(ordinary));
  });

  it("can create processes and threads, but no namespaces", () => {
    const free = ["getpid", "execveat", "clone_plain", "thread", "ptrace", "process_vm_readv"];
    expect(verdicts(results, ...free)).toEqual(free.map(() => "free"));
    const held = [...results.keys()].filter((name) => /^clone_new/.test(name));
    expect(held).toHaveLength(9);
    expect(verdicts(results, ...held)).toEqual(held.map(() => EPERM));
    expect(verdicts(results, "unshare_uts", "unshare_user", "unshare_nothing", "setns")).toEqual([1, 1, 1, 1]);
    expect(verdicts(results, "clone3")).toEqual([ENOSYS]);
  });

  it("gets EPERM for privileged system calls", () => {
    const held = `mount umount2 fsopen open_tree pivot_root sethostname bpf perf_event_open kcmp init_module acct reboot
      settimeofday clock_settime vhangup syslog open_by_handle_at mbind kexec_load swapon iopl io_uring_setup
      userfaultfd keyctl`.split(/\s+/);
    expect(verdicts(results, ...held)).toEqual(held.map(() => EPERM));
    expect(verdicts(results, "chroot", "adjtimex", "modify_ldt")).toEqual(["free", "free", "free"]);
  });

  it("can open sockets of every family except AF_ALG and AF_VSOCK, whatever the high bits", () => {
    for (let family = 0; family < 56; family++) {
      const wanted = family >= 48 ? ENOSYS : family === 38 || family === 40 ? EAFNOSUPPORT : "free";
      expect([family, ...verdicts(results, `socket_${family}`)]).toEqual([family, wanted]);
    }
    expect(results.get("socket_alg_high_bit")).toBe(EAFNOSUPPORT);
  });

  it("cannot disable address space randomisation", () => {
    const asked = ["personality_ask", "personality_linux", "personality_uname26"];
    expect(verdicts(results, ...asked)).toEqual(["free", "free", "free"]);
    const weak = ["personality_no_randomize", "personality_no_randomize_high_bit"];
    expect(verdicts(results, ...weak)).toEqual([ENOSYS, ENOSYS]);
  });

  it("gets ENOSYS for system calls that the profile does not know", () => {
    expect(results.get("not_made_yet")).toBe(ENOSYS);
  });

  it.runIf(process.arch === "x64")(
    "gets no namespaces through the 32-bit syscall entry, where 32-bit programs still work",
    () => {
      expect(verdicts(results, "i386_unshare", "i386_clone_newuser")).toEqual([EPERM, EPERM]);
      expect(verdicts(results, "i386_getpid", "i386_socketcall")).toEqual(["free", "free"]);
    },
  );
});

describe("a capability", () => {
  const brings: [string, string[]][] = [
    [
      "CAP_SYS_ADMIN",
      ["unshare_uts", "unshare_user", "setns", "clone_newns", "clone_newuser", "clone3", "mount", "umount2"],
    ],
    ["CAP_SYS_ADMIN", ["fsopen", "open_tree", "sethostname", "bpf", "perf_event_open", "syslog", "i386_unshare"]],
    ["CAP_BPF", ["bpf"]],
    ["CAP_PERFMON", ["perf_event_open"]],
    ["CAP_SYSLOG", ["syslog"]],
    ["CAP_SYS_PTRACE", ["kcmp"]],
    ["CAP_SYS_MODULE", ["init_module"]],
    ["CAP_SYS_TIME", ["settimeofday", "clock_settime"]],
    ["CAP_SYS_BOOT", ["reboot"]],
    ["CAP_SYS_CHROOT", ["chroot"]],
    ["CAP_SYS_RAWIO", ["iopl"]],
    ["CAP_SYS_TTY_CONFIG", ["vhangup"]],
    ["CAP_SYS_NICE", ["mbind"]],
    ["CAP_SYS_PACCT", ["acct"]],
    ["CAP_DAC_READ_SEARCH", ["open_by_handle_at"]],
  ];
  for (const [capability, names] of brings) {
    it(`${capability} allows ${names.join(", ")} and no other privileged call`, async () => {
      const without = await underFilter(defaultSeccompProfile(new Set()));
      const results = await underFilter(defaultSeccompProfile(new Set([capability])));
      expect(verdicts(without, ...names)).not.toContain("free");
      expect(verdicts(results, ...names)).toEqual(names.map(() => "free"));
      const changed = [...results.keys()].filter((name) => results.get(name) !== without.get(name));
      const all = new Set(brings.filter(([name]) => name === capability).flatMap(([, brought]) => brought));
      const rest = changed.filter((name) => !all.has(name));
      expect(rest.every((name) => capability === "CAP_SYS_ADMIN" && /^(i386_)?(clone|unshare)_/.test(name))).toBe(true);
    });
  }

  it("no capability allows io_uring, keyrings, AF_ALG or kexec", async () => {
    const results = await underFilter(defaultSeccompProfile(new Set(capabilityNames)));
    const held = ["io_uring_setup", "keyctl", "userfaultfd", "kexec_load", "swapon", "pivot_root"];
    expect(verdicts(results, ...held)).toEqual(held.map(() => EPERM));
    expect(verdicts(results, "socket_38", "socket_40")).toEqual([EAFNOSUPPORT, EAFNOSUPPORT]);
  });
});

describe("the same profile in config.json", () => {
  /** Runs the probe in a container with all capabilities that the host allows, so that only seccomp refuses calls. */
  function inContainer(runtime: string, profile: OciSeccomp): Map<string, number> {
    const id = `keelson-seccomp-${process.pid}-${runtime}`;
    const bundle = mkdtempSync(join(base, "bundle-"));
    mkdirSync(join(bundle, "rootfs"));
    copyFileSync(probe, join(bundle, "rootfs/probe"));
    writeFileSync(join(bundle, "config.json"), JSON.stringify(configuration(id, profile)));
    const common = ["--root", join(bundle, "state")];
    try {
      return parse(
        execFileSync(runtime, [...common, "run", "--bundle", bundle, id], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        }),
      );
    } finally {
      try {
        execFileSync(runtime, [...common, "delete", "--force", id], { stdio: "ignore" });
      } catch {
        // Already removed, as expected after a run.
      }
    }
  }

  function configuration(id: string, profile: OciSeccomp): object {
    const all = hostCapabilities();
    return {
      ociVersion: "1.0.2",
      process: {
        args: ["/probe"],
        cwd: "/",
        env: [],
        user: { uid: 0, gid: 0 },
        noNewPrivileges: true,
        capabilities: { bounding: all, effective: all, permitted: all },
      },
      root: { path: "rootfs" },
      hostname: "probe",
      mounts: [
        { destination: "/proc", type: "proc", source: "proc" },
        { destination: "/dev", type: "tmpfs", source: "tmpfs" },
      ],
      linux: {
        cgroupsPath: `/${id}`,
        namespaces: [{ type: "pid" }, { type: "mount" }, { type: "uts" }, { type: "ipc" }],
        seccomp: profile,
      },
    };
  }

  function hostCapabilities(): string[] {
    const names = [
      ...readFileSync("/usr/include/linux/capability.h", "utf8").matchAll(/^#define (CAP_[A-Z_]+)\s+(\d+)$/gm),
    ];
    const held = host.hostCapabilities();
    return names.filter(([, , bit]) => (held >> BigInt(bit ?? 0)) & 1n).map(([, name]) => name ?? "");
  }

  it("if unnamed calls fail with EPERM or a signal, newer system calls fail as under runc", async () => {
    const profile = { ...defaultSeccompProfile(ordinary), defaultErrnoRet: EPERM };
    const ours = await underFilter(profile);
    expect(["swapon", "kexec_load", "not_made_yet"].map((name) => ours.get(name))).toEqual([EPERM, EPERM, ENOSYS]);
    expect([...ours]).toEqual([...inContainer("runc", profile)]);
    const trapping = await underFilter({ ...profile, defaultAction: "SCMP_ACT_TRAP" });
    expect(trapping.get("not_made_yet")).toBe(ENOSYS);
  });

  for (const runtime of ["runc", "crun"]) {
    for (const [who, capabilities] of [
      ["an ordinary container", ordinary],
      ["one with CAP_SYS_ADMIN", new Set(["CAP_SYS_ADMIN"])],
    ] as const) {
      it(`is accepted by ${runtime} and refuses the same calls to ${who}`, async () => {
        const profile = defaultSeccompProfile(capabilities);
        const ours = await underFilter(profile);
        const theirs = inContainer(runtime, profile);
        expect([...theirs.keys()]).toEqual([...ours.keys()]);
        const refusedBy = (results: Map<string, number>) =>
          [...results].filter(([name, errno]) => errno !== unfiltered.get(name)).map((each) => each.join(" "));
        expect(refusedBy(theirs)).toEqual(refusedBy(ours));
      });
    }
  }
});
