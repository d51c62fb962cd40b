// Mounts of a container: what it sees, what it may write to, and what propagates between it and the host.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { builds, defaultMounts, type MountOptions, TestPod } from "./setup-pod.ts";

const mount = (...args: string[]) => execFileSync("mount", args);
const umount = (path: string) => execFileSync("umount", ["-R", path]);

describe.each(builds)("mounts, $build build", ({ program }) => {
  let pod: TestPod;
  let volume: string;
  const mounted: string[] = [];

  beforeEach(() => {
    pod = new TestPod(program);
    volume = join(pod.base, "volume");
    mkdirSync(join(volume, "sub"), { recursive: true });
  });
  afterEach(async () => {
    for (const path of mounted.splice(0).reverse()) umount(path);
    expect(await pod.remove()).toEqual([]);
  });

  const bind = (options: readonly string[], destination = "/volume"): MountOptions[] => [
    ...defaultMounts,
    { destination, type: "bind", source: volume, options },
  ];

  /** Mounts a tmpfs at volume/sub, so that the volume has a submount. */
  function mountBelow(): void {
    mount("-t", "tmpfs", "none", join(volume, "sub"));
    mounted.push(join(volume, "sub"));
  }

  /** Makes the volume a separate mount with this propagation. */
  function makePeers(propagation: "shared" | "private"): void {
    mount("--bind", volume, volume);
    mounted.push(volume);
    mount(`--make-${propagation}`, volume);
  }

  test("changes in the root are written to the upper directory, the layer stays unchanged", async () => {
    expect(await pod.shell("echo new > /etc/file; cat /etc/file")).toBe("new\n");
    expect(readFileSync(join(pod.upper, "etc/file"), "utf8")).toBe("new\n");
    expect(existsSync(join(pod.layer, "etc/file"))).toBe(false);
  });

  test("a root whose layer is on a full file system is refused: overlayfs would make it read-only", async () => {
    const full = join(volume, "sub");
    mount("-t", "tmpfs", "-o", "nr_inodes=3", "none", full);
    mounted.push(full);
    const [upper, work] = [join(full, "upper"), join(full, "work")];
    for (const directory of [upper, work]) mkdirSync(directory);
    pod.write({ args: ["true"] });
    const rootfs = join(pod.bundle, "rootfs.json");
    writeFileSync(rootfs, JSON.stringify({ ...JSON.parse(readFileSync(rootfs, "utf8")), upper, work }));
    const { news } = await pod.start().end();
    expect(JSON.stringify(news)).toContain(`mount the root filesystem ${work}: No space left on device`);
  });

  test("a read-only root refuses writes, its volumes accept them", async () => {
    const text = await pod.shell("touch /x; touch /volume/x && echo ok", {
      root: { readonly: true },
      mounts: bind(["rbind", "rw"]),
    });
    expect(text).toBe("ok\ntouch: /x: Read-only file system\n");
  });

  test("a bind mount shows a directory or a file, and its target is created with parents", async () => {
    writeFileSync(join(volume, "file"), "content\n");
    const text = await pod.shell("cat /deep/er/volume/file /etc/deep/file", {
      mounts: [
        ...bind(["rbind"], "/deep/er/volume"),
        { destination: "/etc/deep/file", type: "bind", source: join(volume, "file"), options: ["bind", "ro"] },
      ],
    });
    expect(text).toBe("content\ncontent\n");
  });

  test("the error for a directory mounted over a file of the image, or a file over a directory, says so", async () => {
    writeFileSync(join(volume, "file"), "");
    writeFileSync(join(pod.layer, "etc/text"), "");
    const refusal = async (source: string, destination: string) => {
      const outcome = await pod.run({
        mounts: [...defaultMounts, { destination, type: "bind", source, options: ["rbind"] }],
      });
      const error = outcome.news.at(-1);
      expect(error).toMatchObject({ event: "error", kind: "invalid" });
      return error?.message;
    };
    expect(await refusal(volume, "/etc/text")).toContain(
      "mount /etc/text: its source is a directory, but its target is not",
    );
    expect(await refusal(join(volume, "file"), "/etc")).toContain(
      "mount /etc: its source is not a directory, but its target is",
    );
  });

  test("a mount over one of the default devices replaces it", async () => {
    const random = { destination: "/dev/random", type: "bind", source: "/dev/urandom", options: ["rbind"] };
    expect(await pod.shell("stat -c %t:%T /dev/random", { mounts: [...defaultMounts, random] })).toBe("1:9\n");
    writeFileSync(join(volume, "file"), "content\n");
    const zero = { destination: "/dev/zero", type: "bind", source: join(volume, "file"), options: ["rbind"] };
    const linux = { devices: [{ path: "/dev/zero", type: "c", major: 1, minor: 5 }] };
    expect(await pod.shell("cat /dev/zero", { mounts: [...defaultMounts, zero], linux })).toBe("content\n");
  });

  test("ro makes the top mount read-only, rro its submounts too", async () => {
    mountBelow();
    const script = "touch /volume/a || echo top; touch /volume/sub/a || echo below";
    expect(await pod.shell(script, { mounts: bind(["rbind", "ro"]) })).toMatch(/^top\n[^b]*$/);
    expect(await pod.shell(script, { mounts: bind(["rbind", "rro"]) })).toMatch(/top\nbelow/);
  });

  test("bind leaves out submounts, rbind includes them", async () => {
    mountBelow();
    writeFileSync(join(volume, "sub/below"), "");
    expect(await pod.shell("ls /volume/sub", { mounts: bind(["bind"]) })).toBe("");
    expect(await pod.shell("ls /volume/sub", { mounts: bind(["rbind"]) })).toBe("below\n");
  });

  test("nosuid, nodev, noexec are set on a bind mount", async () => {
    const text = await pod.shell("/bin/busybox grep ' /volume ' /proc/self/mountinfo", {
      mounts: bind(["rbind", "nosuid", "nodev", "noexec"]),
    });
    expect(text).toContain("rw,nosuid,nodev,noexec,relatime");
  });

  describe("propagation", () => {
    /** Runs a container that waits, and lets `between` act on the host meanwhile. */
    async function whileRunning(script: string, options: readonly string[], between: () => void): Promise<string> {
      pod.write({
        args: ["sh", "-c", `echo ready; read go; ${script}; echo done; read go`],
        mounts: bind(options),
        process: {
          capabilities: { bounding: ["CAP_SYS_ADMIN"], permitted: ["CAP_SYS_ADMIN"], effective: ["CAP_SYS_ADMIN"] },
        },
      });
      const running = pod.start();
      await running.output("ready\n");
      between();
      running.say("\n");
      const text = await running.output("done\n");
      running.say("\n");
      await running.end();
      return text;
    }
    const mountOnHost = () => {
      mountBelow();
      writeFileSync(join(volume, "sub/from-host"), "");
    };

    test("rprivate: neither side sees the other's mounts", async () => {
      makePeers("shared");
      const text = await whileRunning("ls /volume/sub", ["rbind", "rprivate"], mountOnHost);
      expect(text).toBe("ready\ndone\n");
    });

    test("rslave: the host's mounts propagate to the container, but not the other way", async () => {
      makePeers("shared");
      const script = "ls /volume/sub; mount -t tmpfs none /volume/sub; /bin/busybox touch /volume/sub/inner";
      const text = await whileRunning(script, ["rbind", "rslave"], mountOnHost);
      expect(text).toBe("ready\nfrom-host\ndone\n");
      expect(readdirSync(join(volume, "sub"))).toEqual(["from-host"]);
    });

    test("rshared: the container's mounts propagate to the host, and stay there until unmounted", async () => {
      makePeers("shared");
      pod.write({
        args: [
          "sh",
          "-c",
          "mount -t tmpfs none /volume/sub; /bin/busybox touch /volume/sub/inner; echo ready; read go",
        ],
        mounts: bind(["rbind", "rshared"]),
        linux: { rootfsPropagation: "rshared" },
        process: {
          capabilities: { bounding: ["CAP_SYS_ADMIN"], permitted: ["CAP_SYS_ADMIN"], effective: ["CAP_SYS_ADMIN"] },
        },
      });
      const running = pod.start();
      await running.output("ready\n");
      mounted.push(join(volume, "sub"));
      expect(readdirSync(join(volume, "sub"))).toEqual(["inner"]);
      running.say("\n");
      await running.end();
    });

    test("mounts of the container are not visible on the host", async () => {
      makePeers("shared");
      const ours = () =>
        readFileSync("/proc/self/mountinfo", "utf8")
          .split("\n")
          .filter((line) => line.includes(pod.podDir) || line.includes(pod.bundle) || line.includes(volume));
      const before = ours();
      pod.write({
        args: ["sh", "-c", "mount -t tmpfs none /tmp; mount -t tmpfs none /volume/sub; echo done; read go"],
        mounts: bind(["rbind", "rprivate"]),
        process: {
          capabilities: { bounding: ["CAP_SYS_ADMIN"], permitted: ["CAP_SYS_ADMIN"], effective: ["CAP_SYS_ADMIN"] },
        },
      });
      const running = pod.start();
      await running.output("done\n");
      // The pin of the network, the files and the shm of the pod, but nothing of the container.
      expect(ours().filter((line) => !before.includes(line))).toHaveLength(3);
      running.say("\n");
      await running.end();
    });
  });

  describe("/proc and /sys", () => {
    test("masked paths are empty and read-only ones refuse writes", async () => {
      const script = [
        "cat /proc/keys; ls /proc/acpi /sys/firmware",
        "echo x > /proc/sys/kernel/core_pattern || echo refused",
        "echo h > /proc/sysrq-trigger || echo refused",
        "echo x > /proc/keys && echo swallowed",
      ].join("; ");
      const all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
      const before = readFileSync("/proc/sys/kernel/core_pattern", "utf8");
      const text = await pod.shell(script, {
        process: { capabilities: { bounding: all, permitted: all, effective: all } },
      });
      expect(text.match(/refused/g)).toHaveLength(2);
      expect(text).toContain("swallowed");
      expect(text).toMatch(/^\n?\/proc\/acpi:\n\n\/sys\/firmware:\n/);
      expect(readFileSync("/proc/sys/kernel/core_pattern", "utf8")).toBe(before);
    });

    test("the /dev/null over a masked path does not give access to the host's node", async () => {
      const all = ["CAP_FOWNER", "CAP_CHOWN", "CAP_DAC_OVERRIDE"];
      const text = await pod.shell("/bin/busybox chmod 0 /proc/keys; /bin/busybox chown 5 /proc/keys; echo tried", {
        process: { capabilities: { bounding: all, permitted: all, effective: all } },
      });
      expect(text).toContain("tried");
      expect(text.match(/Read-only file system/g)).toHaveLength(2);
    });

    test("the container sees its own cgroups and cannot write to them", async () => {
      const text = await pod.shell(
        "ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs; echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes",
      );
      expect(text).toMatch(/\bmemory\b/);
      expect(text).toMatch(/^1$/m);
      expect(text).toContain("Read-only file system");
    });
  });

  describe("/dev", () => {
    test("has the default nodes and links, and the spec's devices with owner and mode", async () => {
      const devices = [
        { path: "/dev/net/tun", type: "c", major: 10, minor: 200, fileMode: 0o640, uid: 7, gid: 8 },
        { path: "/dev/disk", type: "b", major: 259, minor: 300, fileMode: 0o660, uid: 0, gid: 6 },
      ];
      const text = await pod.shell(
        "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty net/tun disk; for l in ptmx fd stdin stdout stderr; do readlink $l; done",
        { linux: { devices } },
      );
      expect(text.trim().split("\n")).toEqual([
        "null character special file 1:3 666 0:0",
        "zero character special file 1:5 666 0:0",
        "full character special file 1:7 666 0:0",
        "random character special file 1:8 666 0:0",
        "urandom character special file 1:9 666 0:0",
        "tty character special file 5:0 666 0:0",
        "net/tun character special file a:c8 640 7:8",
        "disk block special file 103:12c 660 0:6",
        "pts/ptmx",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
      ]);
    });

    test("the host's /dev as a bind mount is not modified", async () => {
      const dev = join(pod.base, "dev");
      mkdirSync(join(dev, "pts"), { recursive: true });
      mkdirSync(join(dev, "mqueue"));
      writeFileSync(join(dev, "null"), "");
      execFileSync("sh", ["-c", `rm ${dev}/null; mknod -m 666 ${dev}/null c 1 3`]);
      const mounts = defaultMounts.map((entry) =>
        entry.destination === "/dev" ? { ...entry, type: "bind", source: dev, options: ["rbind"] } : entry,
      );
      await pod.shell("true", { mounts });
      expect(readdirSync(dev).sort()).toEqual(["mqueue", "null", "pts"]);
    });
  });

  test("the error for a missing mount source names it", async () => {
    const outcome = await pod.run({
      mounts: [{ destination: "/x", type: "bind", source: "/no/such/source", options: ["bind"] }],
    });
    expect(outcome.news.at(-1)?.message).toBe(
      "container test: open the mount source /no/such/source: No such file or directory",
    );
  });

  test("a mount option that a file system does not know is refused", async () => {
    const outcome = await pod.run({
      mounts: [{ destination: "/x", type: "tmpfs", source: "tmpfs", options: ["no-such-option=1"] }],
    });
    expect(outcome.news.at(-1)?.message).toContain("set the mount options of /x");
  });
});
