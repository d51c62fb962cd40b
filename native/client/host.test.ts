// The addon as used from TypeScript: every method for real, its errors, and that the event loop is not blocked.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostError, KeelsonError, loadHost, nativePaths, noFigure } from "../index.ts";

const host = loadHost();
let base: string;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "keelson-host-"));
});
afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8" });
}

describe("loadHost", () => {
  it("reports which addon is missing and what to do", () => {
    const paths = { ...nativePaths(), addon: join(base, "none.node") };
    expect(() => loadHost(paths)).toThrow(/none\.node cannot be loaded: .*npm run build:native/);
  });

  it("rejects a module that is not this addon", () => {
    writeFileSync(join(base, "other.cjs"), "module.exports = { readFiles() {} };");
    expect(() => loadHost({ ...nativePaths(), addon: join(base, "other.cjs") })).toThrow(/another version/);
  });
});

describe("arguments", () => {
  it("rejects a path that contains a NUL byte", async () => {
    await expect(host.removeTree(`${base}\0/elsewhere`)).rejects.toThrow(TypeError);
    await expect(host.readFiles(["/proc/self/status\0x"], 10)).rejects.toThrow(TypeError);
    expect(existsSync(base)).toBe(true);
  });

  it("rejects limits out of range", async () => {
    await expect(host.readFiles([], -1)).rejects.toThrow(TypeError);
    await expect(host.readFiles([], Number.NaN)).rejects.toThrow(TypeError);
    await expect(host.diskUsage(base, -1n)).rejects.toThrow(TypeError);
  });
});

it.each(["", "process.exit(0)"])("lets a process exit with calls in flight: %s", (end) => {
  const program = `
    import { loadHost } from ${JSON.stringify(join(import.meta.dirname, "host.ts"))};
    const host = loadHost();
    for (let calls = 0; calls < 50; calls += 1) host.presentPath("/usr").then(() => host.readFiles(["/none"], 1));
    ${end}`;
  execFileSync(process.execPath, ["--input-type=module", "--eval", program], { stdio: "inherit" });
});

it("creates an empty mount namespace, and leaves this process's mounts, root and directory as they are", async () => {
  // Below these directories other tests mount and unmount meanwhile.
  const isOthers = (line: string) => /^\S+ \S+ \S+ \S+ \/(tmp|run|sys)\//.test(line);
  const mounts = () =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => !isOthers(line));
  const view = () => [mounts(), readlinkSync("/proc/self/ns/mnt"), readlinkSync("/proc/self/root"), process.cwd()];
  const before = view();
  const fd = await host.emptyMountNamespace();
  expect(readlinkSync(`/proc/self/fd/${fd}`)).toMatch(/^mnt:/);
  expect(readlinkSync(`/proc/self/fd/${fd}`)).not.toBe(readlinkSync("/proc/self/ns/mnt"));
  expect(view()).toEqual(before);
  closeSync(fd);
});

describe("readFiles", () => {
  it("returns the files in order, null for one that is missing or too long", async () => {
    writeFileSync(join(base, "a"), "abc");
    const files = await host.readFiles([join(base, "a"), join(base, "none"), "/proc/self/stat"], 3);
    expect(files[0]?.toString()).toBe("abc");
    expect(files.slice(1)).toEqual([null, null]);
  });

  it("reads 500 files in one call", async () => {
    const paths = Array.from({ length: 500 }, () => "/proc/self/cgroup");
    const files = await host.readFiles(paths, 65_536);
    expect(files.every((file) => file !== null && file.length > 0)).toBe(true);
  });
});

describe("readFigures", () => {
  it("returns each number for each directory: single, flat keyed and nested keyed", async () => {
    for (const name of ["a", "b"]) mkdirSync(join(base, name));
    writeFileSync(join(base, "a/one"), "18446744073709551614\n");
    writeFileSync(join(base, "a/flat"), "used_more 1\nused 2\nused_last 3");
    writeFileSync(join(base, "a/nested"), "some avg10=1.50 total=77\nfull avg10=0.05 total=7\n");
    writeFileSync(join(base, "b/one"), "5");
    const figures = [
      "*/one",
      "*/flat used",
      "*/flat used_last",
      "*/nested full avg10",
      "*/nested full total",
      "*/nested some avg10",
    ];
    const directories = [join(base, "a"), join(base, "none"), join(base, "b")];
    expect([...(await host.readFigures(directories, figures))]).toEqual([
      ...[2n ** 64n - 2n, 2n, 3n, 5n, 7n, 150n],
      ...[noFigure, noFigure, noFigure, noFigure, noFigure, noFigure],
      ...[5n, noFigure, noFigure, noFigure, noFigure, noFigure],
    ]);
  });

  it("finds no number in other text", async () => {
    const contents = ["max\n", "", "-1\n", "12x\n", "18446744073709551616\n", "key\n", "key max\n", "other key 3\n"];
    for (const [index, content] of contents.entries()) writeFileSync(join(base, `${index}`), content);
    const figures = contents.flatMap((_, index) => [`*/${index}`, `*/${index} key`, `*/${index} key sub`]);
    expect(new Set(await host.readFigures([base], figures))).toEqual(new Set([noFigure]));
  });
});

describe("diskUsage", () => {
  it("counts as du does", async () => {
    mkdirSync(join(base, "deep/er"), { recursive: true });
    writeFileSync(join(base, "deep/er/file"), Buffer.alloc(300_000, 1));
    linkSync(join(base, "deep/er/file"), join(base, "deep/hard"));
    symlinkSync("/", join(base, "deep/root"));
    const use = await host.diskUsage(base);
    expect(use.bytes).toBe(BigInt(run("du", "-s", "--block-size=1", base).split("\t")[0] ?? ""));
    expect(use.inodes).toBe(BigInt(run("du", "-s", "--inodes", base).split("\t")[0] ?? ""));
  });

  it("stops counting at its limit, and rejects if the path does not exist", async () => {
    for (let i = 0; i < 10; i++) writeFileSync(join(base, `${i}`), "");
    expect((await host.diskUsage(base, 5n)).inodes).toBe(5n);
    await expect(host.diskUsage(join(base, "none"))).rejects.toMatchObject({ code: "NotFound", errno: 2 });
  });
});

describe("removeTree", () => {
  it("removes a tree with links, a FIFO and unreadable directories, and nothing outside", async () => {
    const tree = join(base, "tree");
    mkdirSync(join(tree, "locked/inner"), { recursive: true });
    writeFileSync(join(base, "outside"), "stays");
    symlinkSync(base, join(tree, "up"));
    run("mkfifo", join(tree, "fifo"));
    writeFileSync(join(tree, "locked/inner/file"), "");
    chmodSync(join(tree, "locked"), 0);
    await host.removeTree(tree);
    expect(readdirSync(base)).toEqual(["outside"]);
    await host.removeTree(tree);
  });

  it("does not block the event loop", async () => {
    const tree = join(base, "many");
    for (let i = 0; i < 40; i++) {
      mkdirSync(join(tree, `${i}`), { recursive: true });
      for (let j = 0; j < 100; j++) writeFileSync(join(tree, `${i}/${j}`), "");
    }
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await host.removeTree(tree);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
    expect(existsSync(tree)).toBe(false);
  });

  it("does not delay other file operations while many large trees are removed at once", async () => {
    const trees = Array.from({ length: 8 }, (_, index) => join(base, `large-${index}`));
    for (const tree of trees) run("sh", "-c", `mkdir ${tree} && cd ${tree} && seq 3000 | xargs touch`);
    const done: string[] = [];
    const removals = trees.map((tree) => host.removeTree(tree).then(() => done.push("tree")));
    const other = writeFile(join(base, "file"), "").then(() => done.push("file"));
    await Promise.all([other, ...removals]);
    expect(done[0]).toBe("file");
  });

  it("reports a kernel error with object, step and errno", async () => {
    mkdirSync(join(base, "tree/mount"), { recursive: true });
    run("mount", "-t", "tmpfs", "none", join(base, "tree/mount"));
    try {
      const error: unknown = await host.removeTree(join(base, "tree")).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(HostError);
      expect(error).toBeInstanceOf(KeelsonError);
      expect(error).toMatchObject({ code: "Internal", kind: "system", errno: 16, object: join(base, "tree") });
      expect(String(error)).toMatch(/remove directory mount.*busy/);
    } finally {
      await host.unmount(join(base, "tree/mount"));
    }
    await host.unmount(join(base, "tree/mount"));
    await host.removeTree(join(base, "tree"));
  });
});

describe("network namespaces", () => {
  it("are kept by a pin when their own path is removed, and can be checked for an interface", async () => {
    const name = `kh-${process.pid}`;
    const pin = join(base, "pin");
    run("ip", "netns", "add", name);
    try {
      run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "kh-other");
      await host.pinNamespace(`/run/netns/${name}`, pin);
    } finally {
      run("ip", "netns", "delete", name);
    }
    expect(await host.hasInterface(pin, "kh-other")).toBe(true);
    expect(await host.hasInterface(pin, "eth1")).toBe(false);
    expect(await host.readInterfaces(pin)).toMatch(/^ *kh-other: +0 +0/m);
    // The thread that looked does not stay in the namespace: pool threads still see the host's interfaces.
    expect(await host.hasInterface("/proc/self/ns/net", "kh-other")).toBe(false);
    await host.unmount(pin);
    await expect(host.hasInterface(pin, "kh-other")).rejects.toMatchObject({ code: "NotFound" });
    await expect(host.readInterfaces(pin)).rejects.toMatchObject({ code: "NotFound" });
    await expect(host.pinNamespace(pin, join(base, "other"))).rejects.toMatchObject({ code: "NotFound" });
  });
});

describe("readFromLayers", () => {
  it("resolves links inside the layers, and reports files that it refuses to open", async () => {
    mkdirSync(join(base, "top/etc"), { recursive: true });
    mkdirSync(join(base, "bottom/etc"), { recursive: true });
    symlinkSync("/../../etc/real", join(base, "top/etc/passwd"));
    writeFileSync(join(base, "bottom/etc/real"), "root:x:0:0::/:\n");
    symlinkSync("/dev/zero", join(base, "bottom/etc/group"));
    run("mkfifo", join(base, "bottom/etc/shadow"));
    const answer = await host.readFromLayers(
      [join(base, "top"), join(base, "bottom")],
      ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/real"],
      15,
    );
    expect(answer[0]).toEqual({ kind: "file", content: Buffer.from("root:x:0:0::/:\n") });
    expect(answer.slice(1, 3)).toEqual([{ kind: "missing" }, { kind: "not-regular" }]);
    expect(answer[3]?.kind).toBe("file");
    expect(await host.readFromLayers([join(base, "bottom")], ["etc/real"], 14)).toEqual([
      { kind: "too-large", size: 15n },
    ]);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("/proc/self/fd/");
  });
});

describe("openInside", () => {
  it("opens regular files below the directory, without following links or leaving it", async () => {
    const inside = join(base, "inside");
    mkdirSync(join(inside, "deep"), { recursive: true });
    writeFileSync(join(base, "outside"), "outside");
    writeFileSync(join(inside, "deep/file"), "inside");
    symlinkSync("deep/file", join(inside, "link"));
    symlinkSync("deep", join(inside, "way"));
    symlinkSync("..", join(inside, "up"));
    run("mkfifo", join(inside, "fifo"));
    const fd = await host.openInside(inside, "deep/../deep/file");
    expect(fd).not.toBeNull();
    if (fd !== null) {
      expect(readFileSync(fd, "utf8")).toBe("inside");
      closeSync(fd);
    }
    const refused = [
      "link",
      "way/file",
      "up/outside",
      "../outside",
      "/etc/passwd",
      "fifo",
      "deep",
      "",
      "missing",
      "a\0b",
    ];
    for (const name of [...refused, "n".repeat(300)])
      expect([name, await host.openInside(inside, name)]).toEqual([name, null]);
    await expect(host.openInside(join(base, "missing"), "x")).rejects.toMatchObject({ message: /missing/ });
  });
});

describe("removedPaths", () => {
  it("lists whiteouts, up to a limit", async () => {
    mkdirSync(join(base, "upper"));
    execFileSync("mknod", ["gone", "c", "0", "0"], { cwd: join(base, "upper") });
    const [path] = await host.removedPaths(join(base, "upper"), []);
    expect(path?.toString()).toBe("gone");
    await expect(host.removedPaths(join(base, "upper"), [], 0n)).rejects.toMatchObject({ code: "InvalidArgument" });
    await expect(host.removedPaths(join(base, "missing"), [])).rejects.toMatchObject({ message: /missing/ });
  });

  it("uses no memory for the directories that a container creates", async () => {
    const upper = join(base, "wide");
    const lines = `mkdir ${upper} && cd ${upper} && for i in $(seq 15); do mkdir ${"d".repeat(255)} && cd d*; done`;
    execFileSync("sh", ["-c", `${lines} && seq 10000 | xargs mkdir && mknod gone c 0 0`]);
    // Resets the peak to the current usage (proc_pid_clear_refs(5)).
    writeFileSync("/proc/self/clear_refs", "5");
    const peak = () => Number(/VmHWM:\s*(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
    const before = peak();
    const [path, ...more] = await host.removedPaths(upper, []);
    expect(peak() - before).toBeLessThan(20 << 10);
    expect(path?.toString()).toBe(join(...Array(15).fill("d".repeat(255)), "gone"));
    expect(more).toEqual([]);
  });
});

describe("sealedCopy", () => {
  it("is executable, cannot be written to, and is not inherited", async () => {
    const fd = await host.sealedCopy("/bin/echo");
    try {
      expect(run(`/proc/self/fd/${fd}`, "hello")).toBe("hello\n");
      expect(() => openSync(`/proc/self/fd/${fd}`, "r+") && writeFileSync(`/proc/self/fd/${fd}`, "x")).toThrow(
        /EPERM|ETXTBSY/,
      );
      expect(run("ls", "-l", "/proc/self/fd")).not.toContain("memfd:echo");
    } finally {
      closeSync(fd);
    }
    await expect(host.sealedCopy(base)).rejects.toMatchObject({ code: "InvalidArgument" });
  });
});

describe("tryLock", () => {
  it("fails while another process holds the lock, until that process dies", async () => {
    const path = join(base, "lock");
    const holder = spawn("flock", [path, "sh", "-c", "echo locked; exec sleep 60"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    await once(holder.stdout, "data");
    expect(await host.tryLock(path)).toBeNull();
    const gone = once(holder, "exit");
    // flock(1) keeps the descriptor open in its command as well: kill both.
    process.kill(Number(run("pgrep", "-P", `${holder.pid}`)), "SIGKILL");
    await gone;
    const fd = await host.tryLock(path);
    expect(fd).toBeTypeOf("number");
    if (fd !== null) closeSync(fd);
  });
});

describe("hostCapabilities", () => {
  it("is CapBnd of this process", () => {
    const line = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    expect(host.hostCapabilities()).toBe(BigInt(`0x${line}`));
  });
});

describe("the functions without Node.js", () => {
  it("pass their unit tests under AddressSanitizer and UBSan", () => {
    const program = fileURLToPath(new URL("../build/sanitize/addon-unit-test", import.meta.url));
    if (!existsSync(program)) throw new Error(`${program} is missing: run make -C native sanitize`);
    expect(run(program)).toBe("addon: all claims hold\n");
  });
});
