// Hostile images and containers: each attack is built and run, and named by its CVE if it has one.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadHost } from "../../client/host.ts";
import { builds, defaultMounts, type Outcome, TestPod } from "./setup-pod.ts";

const failure = (outcome: Outcome) => String(outcome.news.find((line) => line.event === "error")?.message ?? "");
const all = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_CHOWN", "CAP_FOWNER"];
const powerful = { capabilities: { bounding: all, permitted: all, effective: all } };

describe.each(builds)("attacks, $build build", ({ build, program }) => {
  let pod: TestPod;
  let outside: string;

  beforeEach(() => {
    pod = new TestPod(program);
    outside = join(pod.base, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "decoy"), "untouched");
  });
  afterEach(async () => {
    const decoy = readFileSync(join(outside, "decoy"), "utf8");
    const listing = readdirSync(outside);
    expect(await pod.remove()).toEqual([]);
    expect(decoy).toBe("untouched");
    expect(listing).toEqual(["decoy"]);
  });

  /** Replaces `path` in the image by a link. */
  function link(path: string, target: string): void {
    rmSync(join(pod.layer, path), { recursive: true, force: true });
    symlinkSync(target, join(pod.layer, path));
  }

  describe("an image whose directories are links", () => {
    test.each(["absolute", "relative"])(
      "/dev (%s): nodes and links are created inside (CVE-2026-41579)",
      async (kind) => {
        link("dev", kind === "absolute" ? outside : `../../../../../../../..${outside}`);
        const { stdout } = await pod.run({
          args: ["/bin/ls", "-d", "/dev/fd", "/dev/null", "/dev/x"],
          linux: { devices: [{ path: "/dev/x", type: "c", major: 1, minor: 3 }] },
        });
        expect(stdout.trim().split("\n")).toEqual(["/dev/fd", "/dev/null", "/dev/x"]);
      },
    );

    test("/dev, without a mount on it", async () => {
      link("dev", outside);
      await pod.run({
        args: ["/bin/true"],
        mounts: defaultMounts.filter((mount) => !mount.destination.startsWith("/dev")),
      });
      expect(existsSync(join(pod.upper, outside, "null"))).toBe(true);
    });

    test.each(["/proc", "/sys"])("%s: refused (CVE-2023-27561)", async (path) => {
      link(path.slice(1), "/tmp");
      expect(failure(await pod.run({}))).toContain(`mount target ${path}`);
    });

    test("a mount target through an absolute link and ..: stays inside (CVE-2021-30465)", async () => {
      link("etc", `/../../..${outside}`);
      mkdirSync(join(pod.layer, outside), { recursive: true });
      const volume = join(pod.base, "volume");
      mkdirSync(volume);
      writeFileSync(join(volume, "inner"), "");
      const text = await pod.shell(`ls ${outside}/a/b`, {
        mounts: [...defaultMounts, { destination: "/etc/a/../a/b", type: "bind", source: volume, options: ["rbind"] }],
      });
      expect(text).toBe("inner\n");
    });

    test("a target that is a dangling link is created inside", async () => {
      link("etc", `${outside}/etc`);
      const text = await pod.shell(`cat ${outside}/etc/resolv.conf`, {
        mounts: [
          ...defaultMounts,
          { destination: "/etc/resolv.conf", type: "bind", source: join(outside, "decoy"), options: ["ro"] },
        ],
      });
      expect(text).toBe("untouched");
    });

    test.each(["/", ".", "etc/../.."])("a mount target that is a link to %s, the root, is refused", async (target) => {
      link("top", target);
      const volume = { destination: "/top", type: "bind", source: outside, options: ["rbind"] };
      expect(failure(await pod.run({ mounts: [...defaultMounts, volume] }))).toContain(
        "refuse to mount over the container's root at /top: a link in the image",
      );
    });

    test.each(["/dev", "/proc", "/sys"])("a file of the image at %s is reported as not a directory", async (path) => {
      rmSync(join(pod.layer, path), { recursive: true });
      writeFileSync(join(pod.layer, path), "");
      expect((await pod.run({})).news.at(-1)).toMatchObject({
        kind: "invalid",
        message: expect.stringContaining(`create the mount target ${path}: Not a directory`),
      });
    });

    test("a loop of links ends in an error", async () => {
      link("tmp", "tmp2");
      link("tmp2", "tmp");
      const mounts = [...defaultMounts, { destination: "/tmp/x", type: "tmpfs", source: "tmpfs" }];
      expect(failure(await pod.run({ mounts }))).toContain("Too many levels of symbolic links");
    });
  });

  describe("working directories (CVE-2024-21626)", () => {
    test.each([3, 4, 5, 6, 7, 8, 9, 10, 20, 50])("/proc/self/fd/%i is refused at start", async (fd) => {
      expect(failure(await pod.run({ process: { cwd: `/proc/self/fd/${fd}` } }))).toContain("working directory");
    });

    test("through a link, at start and in exec", async () => {
      link("work", "/proc/self/fd/7");
      expect(failure(await pod.run({ process: { cwd: "/work" } }))).toContain("working directory");
    });

    test("an exec whose working directory became such a link after the start is refused", async () => {
      pod.write({
        args: [
          "sh",
          "-c",
          "cd /; /bin/busybox rmdir /work; for n in 3 4 5 6 7 8 9; do /bin/busybox ln -s /proc/self/fd/$n /work; sleep 0.05; done; sleep 20",
        ],
        process: { cwd: "/work" },
      });
      const outcome = await pod.start(["ls"]).end();
      const exec = outcome.news.find((line) => line.event === "exec");
      if (exec?.message === undefined) expect(outcome.stdout).not.toContain("decoy");
      else expect(exec.message).toContain("working directory");
    });
  });

  describe("/proc", () => {
    test("a volume over /proc is refused (CVE-2019-16884)", async () => {
      const mounts = [...defaultMounts, { destination: "/proc", type: "bind", source: outside, options: ["rbind"] }];
      expect(failure(await pod.run({ mounts }))).toContain("refuse to mount over procfs at /proc");
    });

    test("a part of the host's procfs over /proc is refused, a complete procfs is allowed", async () => {
      const over = (source: string) => [
        ...defaultMounts,
        { destination: "/proc", type: "bind", source, options: ["rbind"] },
      ];
      expect(failure(await pod.run({ mounts: over("/proc/sys") }))).toContain("refuse to mount over procfs at /proc");
      expect(await pod.shell(`stat -f -c %T /proc; ls -d /proc/${process.pid}`, { mounts: over("/proc") })).toBe(
        `proc\n/proc/${process.pid}\n`,
      );
    });

    test("a container with something else mounted there, before or instead of procfs, does not start", async () => {
      const bind = { destination: "/proc", type: "bind", source: outside, options: ["rbind"] };
      const others = defaultMounts.filter(({ destination }) => destination !== "/proc");
      expect(failure(await pod.run({ mounts: [bind, ...others] }))).toContain("check that a procfs is at /proc");
      const tmpfs = { destination: "/proc", type: "tmpfs", source: "tmpfs" };
      expect(failure(await pod.run({ mounts: [tmpfs, ...others] }))).toContain("check that a procfs is at /proc");
    });

    test("a file that runc and crun allow to be covered can be covered, even in a read-only part of /proc", async () => {
      const covered = "/proc/sys/kernel/ns_last_pid";
      const source = join(outside, "decoy");
      const mounts = [...defaultMounts, { destination: covered, type: "bind", source, options: ["bind", "ro"] }];
      expect(await pod.shell(`cat ${covered}; : > /proc/sys/kernel/domainname`, { mounts })).toMatch(
        /^untouched.*Read-only/,
      );
    });

    test("a volume over a file of /proc, also through a link, is refused, except over lxcfs's files", async () => {
      const over = (destination: string) =>
        pod.run({
          mounts: [...defaultMounts, { destination, type: "bind", source: join(outside, "decoy"), options: ["bind"] }],
        });
      expect(failure(await over("/proc/self/attr/exec"))).toContain("refuse to mount over procfs");
      expect(failure(await over("/proc/version"))).toContain("refuse to mount over procfs");
      link("p", "/proc/version");
      expect(failure(await over("/p"))).toContain("refuse to mount over procfs");
      expect(failure(await over("/proc/meminfo"))).toBe("");
    });

    test("a security label is written to the kernel's procfs, whatever the image has at /proc (CVE-2023-28642)", async () => {
      // AppArmor, if enabled, has no such profile, so the kernel refuses it; the image's own file would accept it.
      const fake = join(pod.layer, "proc/self/attr/apparmor/exec");
      mkdirSync(join(fake, ".."), { recursive: true });
      writeFileSync(fake, "", { mode: 0o666 });
      const mounts = defaultMounts.filter((mount) => mount.destination !== "/proc");
      const linux = { maskedPaths: [], readonlyPaths: [] };
      const process = { apparmorProfile: "keelson-no-such-profile" };
      expect(failure(await pod.run({ args: ["/bin/true"], mounts, linux, process }))).toContain(
        "set the security label",
      );
      expect(existsSync(join(pod.upper, "proc/self/attr/apparmor/exec"))).toBe(false);
      // The same for SELinux.
      const attributes = ["proc/self/attr/exec", "proc/self/attr/keycreate"];
      for (const name of attributes) writeFileSync(join(pod.layer, name), "", { mode: 0o666 });
      const labelled = { selinuxLabel: "keelson_u:keelson_r:no_such_t:s0" };
      expect(failure(await pod.run({ args: ["/bin/true"], mounts, linux, process: labelled }))).toContain(
        "set the security label",
      );
      for (const name of attributes) expect(existsSync(join(pod.upper, name))).toBe(false);
      // Without the label the same container starts.
      expect(failure(await pod.run({ args: ["/bin/true"], mounts, linux, process: {} }))).toBe("");
    });

    test("a path is not masked with the image's /dev/null (CVE-2025-31133)", async () => {
      link("dev", "tmp");
      const mounts = defaultMounts.filter((mount) => !mount.destination.startsWith("/dev"));
      symlinkSync("/proc/sys/kernel/core_pattern", join(pod.layer, "tmp/null"));
      const outcome = await pod.run({ args: ["cat", "/proc/keys"], mounts });
      expect(failure(outcome)).toContain("create the device /dev/null: File exists");
    });

    test("a console target that is a link is refused (CVE-2025-52565)", async () => {
      const mounts = defaultMounts.filter((mount) => mount.destination !== "/dev");
      symlinkSync("/proc/sys/kernel/core_pattern", join(pod.layer, "dev/console"));
      const outcome = await pod.run({ process: { terminal: true }, mounts });
      expect(failure(outcome)).toContain("mount the console");
    });

    test("a ptmx of the image is not used as a terminal", async () => {
      mkdirSync(join(pod.layer, "dev/pts"));
      writeFileSync(join(pod.layer, "dev/pts/ptmx"), "");
      const mounts = defaultMounts.filter((mount) => !mount.destination.startsWith("/dev"));
      expect(failure(await pod.run({ process: { terminal: true }, mounts }))).toMatch(
        /open the terminal \/dev\/pts\/ptmx: No such device/,
      );
    });
  });

  test("a bind source that has become a link is not followed", async () => {
    const volume = join(pod.base, "volume");
    symlinkSync(outside, volume);
    for (const source of [volume, join(volume, "decoy"), `/proc/${process.pid}/cwd`]) {
      const mounts = [...defaultMounts, { destination: "/volume", type: "bind", source, options: ["rbind"] }];
      expect(failure(await pod.run({ mounts }))).toContain(`refuse a symbolic link in the mount source ${source}`);
    }
  });

  test("a layer's own redirect into another layer is not followed", async () => {
    const below = join(pod.base, "below");
    mkdirSync(join(below, "secret"), { recursive: true });
    writeFileSync(join(below, "secret/file"), "");
    mkdirSync(join(pod.layer, "shown"));
    // trusted.overlay.redirect, as written by overlayfs itself for a renamed directory.
    execFileSync("python3", [
      "-c",
      "import os,sys; os.setxattr(sys.argv[1], 'trusted.overlay.redirect', b'/secret')",
      join(pod.layer, "shown"),
    ]);
    pod.write({ args: ["ls", "/shown"] });
    const rootfs = join(pod.bundle, "rootfs.json");
    const { lower, ...rest } = JSON.parse(readFileSync(rootfs, "utf8"));
    writeFileSync(rootfs, JSON.stringify({ lower: [...lower, below], ...rest }));
    const outcome = await pod.start().end();
    expect(outcome.stdout).toBe("");
    expect(outcome.news.some((line) => line.event === "exited")).toBe(true);
  });

  describe("races", () => {
    test("a target swapped between a directory and a link never lets a mount escape (CVE-2021-30465)", async () => {
      const volume = join(pod.base, "volume");
      mkdirSync(join(volume, "real"), { recursive: true });
      symlinkSync(outside, join(volume, "link"));
      mkdirSync(join(volume, "target"));
      let flipping = true;
      const flip = (async () => {
        while (flipping) {
          try {
            renameSync(join(volume, "target"), join(volume, "real2"));
            renameSync(join(volume, "link"), join(volume, "target"));
            await new Promise((resolve) => setImmediate(resolve));
            renameSync(join(volume, "target"), join(volume, "link"));
            renameSync(join(volume, "real2"), join(volume, "target"));
          } catch {
            // A start may have created the target while it was missing.
            rmSync(join(volume, "real2"), { recursive: true, force: true });
          }
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
      const mounts = [
        ...defaultMounts,
        { destination: "/volume", type: "bind", source: volume, options: ["rbind"] },
        { destination: "/volume/target/made", type: "tmpfs", source: "tmpfs" },
      ];
      for (let round = 0; round < 15; ++round) await pod.run({ mounts });
      flipping = false;
      await flip;
    });
  });

  describe("the entering process (CVE-2016-9962, CVE-2019-5736)", () => {
    // Checks every other process for descriptors beyond the standard ones and for programs it can open.
    const peek = [
      "while :; do for p in /proc/[0-9]*; do",
      '[ "$p" = "/proc/$$" ] && continue;',
      "for f in $p/fd/*; do t=$(readlink $f) || continue;",
      'case "$t" in /*) case "$t" in /proc/*|/dev/*) ;; *) echo "SEEN $f $t";; esac;; esac; done;',
      'e=$(readlink $p/exe) && case "$e" in /bin/busybox) ;; *) echo "EXE $p $e";; esac;',
      "done; done",
    ].join(" ");

    test("an exec exposes no descriptor and no program of the host to the container", async () => {
      const hash = () => createHash("sha256").update(readFileSync(program)).digest("hex");
      const before = hash();
      for (let round = 0; round < 5; ++round) {
        pod.write({ args: ["sh", "-c", peek], process: {} });
        const outcome = await pod.start(["true"]).end();
        expect(outcome.stdout).not.toContain("SEEN");
        expect(outcome.stdout).not.toContain("EXE");
      }
      expect(hash()).toBe(before);
    });

    test("an exec exposes no descriptor to a container with CAP_SYS_PTRACE", async () => {
      for (let round = 0; round < 5; ++round) {
        pod.write({ args: ["sh", "-c", peek], process: powerful });
        const outcome = await pod.start(["true"]).end();
        expect(outcome.stdout).not.toContain("SEEN");
      }
    });

    test("#!/proc/self/exe reaches only the sealed copy, which cannot be written to (CVE-2019-5736)", async () => {
      // The daemon starts the monitor from such a copy (monitor-spawn.test.ts).
      const copy = await loadHost().sealedCopy(program);
      const sealed = new TestPod(`/proc/${process.pid}/fd/${copy}`);
      try {
        writeFileSync(join(sealed.layer, "bin/evil"), "#!/proc/self/exe\n", { mode: 0o755 });
        sealed.write({ args: ["sleep", "20"] });
        const outcome = await sealed.start(["/bin/evil"]).end();
        // The attack works: the kernel runs our program in the container (the sanitized one lacks its libraries there).
        if (build === "plain") expect(outcome.stderr).toContain("usage: setup-test");
        expect(() => writeFileSync(`/proc/self/fd/${copy}`, "x", { flag: "r+" })).toThrow("EPERM");
      } finally {
        expect(await sealed.remove()).toEqual([]);
        closeSync(copy);
      }
    });
  });

  test.each([
    ["the host's", "kernel.core_pattern"],
    ["with a slash", "net/ipv4/ip_forward"],
    ["with dots", "net..ipv4"],
    ["with a sign", "net.ipv4.ip_forward=1+kernel.core_pattern"],
    ["unknown", "vm.overcommit_memory"],
  ])("a sysctl that is %s is refused (CVE-2022-0811)", async (_case, name) => {
    const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
    const outcome = await pod.run({ sandbox: { sysctls: { [name]: "1" } } });
    expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
    expect(readFileSync("/proc/sys/kernel/core_pattern", "utf8")).toBe(before);
  });

  test("a network sysctl is refused for a pod on the host's network", async () => {
    const namespaces = { net: "host", ipc: "pod", uts: "pod", pid: "container" };
    const unchanged = readFileSync("/proc/sys/net/ipv4/ip_default_ttl", "utf8").trim();
    const outcome = await pod.run({ sandbox: { namespaces, sysctls: { "net.ipv4.ip_default_ttl": unchanged } } });
    expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
    expect(outcome.news.at(-1)?.message).toContain("the pod uses the host's namespace for it");
  });

  test.each(["1\nkernel.core_pattern=x", "1\u0000"])("a sysctl value with a control byte is refused", async (value) => {
    const outcome = await pod.run({ sandbox: { sysctls: { "net.ipv4.ip_forward": value } } });
    expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
  });

  test("a path of 70 KiB is refused with a clear error (CVE-2021-43784)", async () => {
    const mounts = [{ destination: `/${"x".repeat(70_000)}`, type: "tmpfs", source: "tmpfs" }];
    expect((await pod.run({ mounts })).news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
  });

  test("a cgroup path with .. is refused", async () => {
    const outcome = await pod.run({ linux: { cgroupsPath: `${pod.cgroup}/../../x` } });
    expect(outcome.news.at(-1)).toMatchObject({ event: "error", kind: "invalid" });
  });

  test("device nodes other than the allowed ones cannot be opened", async () => {
    const text = await pod.shell(
      "/bin/busybox mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg; echo x > /dev/null && echo fine",
      {
        process: powerful,
        linux: { resources: { devices: [{ allow: false, access: "rwm" }] } },
      },
    );
    expect(text).toContain("fine");
    expect(text).toContain("Operation not permitted");
  });
});
