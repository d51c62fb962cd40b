// `keelson image save`, `load -` and `tag` as in practice: with pipes, files and full disks.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const program = join(import.meta.dirname, "../../cri/keelson");
const execute = promisify(execFile);
let node: TestNode;
let at: (name: string) => string;

beforeAll(async () => {
  node = await startNode();
  at = (name) => join(node.directory, name);
});
afterAll(() => node.close());

/** Runs a shell command line, in which `image` stands for `keelson image`. */
async function shell(line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const prelude = `image() { ${program} image "$@" --socket ${node.daemon.socket}; }`;
  return await execute("bash", ["-c", `${prelude}\n${line}`], { cwd: node.directory }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

async function names(): Promise<string[]> {
  return JSON.parse((await shell("image ls --output json")).stdout).flatMap((each: { names: string[] }) => each.names);
}

describe("saving and loading images", () => {
  test("a saved image is an OCI layout that tar and keelson can read, from a file or a pipe", async () => {
    expect(await shell(`image save whole.tar ${node.image}`)).toMatchObject({ code: 0, stdout: "" });
    const { stdout: listed } = await execute("tar", ["--list", "--verbose", "--file", at("whole.tar")]);
    expect(listed).toMatch(/^-rw-r--r-- 0\/0 +31 1970-01-01 \d\d:\d\d oci-layout\n.* index\.json\n/);
    expect(listed.match(/ blobs\/sha256\/[0-9a-f]{64}\n/g)).toHaveLength(3);
    await execute("tar", ["--extract", "--file", at("whole.tar"), "index.json"], { cwd: node.directory });
    expect(JSON.parse(await readFile(at("index.json"), "utf8")).manifests).toMatchObject([
      { annotations: { "org.opencontainers.image.ref.name": node.image, "io.containerd.image.name": node.image } },
    ]);
    // Load the same image in each way.
    const { stdout: id } = await shell(`image save - ${node.image} | sha256sum; sha256sum < whole.tar`);
    expect(new Set(id.split("\n").filter(Boolean)).size).toBe(1);
    for (const way of [
      "cat whole.tar | image load -",
      "image load - < whole.tar",
      "zstd -q whole.tar; image load whole.tar.zst",
    ]) {
      await shell(`image rm ${node.image}`);
      expect(await names()).toEqual([]);
      const loaded = await shell(way);
      expect({ ...loaded, stderr: "" }).toMatchObject({ code: 0, stdout: expect.stringContaining(` ${node.image}\n`) });
      expect(await names()).toEqual([node.image]);
    }
    expect((await readdir("/var/tmp")).filter((name) => name.startsWith("keelson-load-"))).toEqual([]);
  });

  test("a tag adds a name, or moves an existing one", async () => {
    const tagged = await shell(`image tag ${node.image} localhost/test/other:2 --output json`);
    expect(JSON.parse(tagged.stdout).names).toEqual(["localhost/test/busybox:1", "localhost/test/other:2"]);
    expect(await shell(`image tag localhost/none:1 localhost/test/other:3`)).toMatchObject({
      code: 1,
      stderr: "keelson: There is no image localhost/none:1 on this node. Pull it first.\n",
    });
    const digest = `localhost/test/other@sha256:${"0".repeat(64)}`;
    expect((await shell(`image tag ${node.image} ${digest}`)).stderr).toContain(
      "a digest is computed and cannot be assigned",
    );
    const id = (await shell("image ls --output json")).stdout.match(/sha256:[0-9a-f]{64}/)?.[0];
    expect(await shell(`image save both.tar ${id} localhost/test/other:2`)).toMatchObject({ code: 0 });
    expect((await shell("tar -xOf both.tar index.json")).stdout.match(/ref\.name/g)).toHaveLength(1);
  });

  test("a missing image or file is named in the error, and no file is created or changed", async () => {
    await writeFile(at("kept.tar"), "kept");
    expect(await shell("image save kept.tar localhost/none:1")).toMatchObject({
      code: 1,
      stderr: "keelson: There is no image localhost/none:1 on this node. Pull it first.\n",
    });
    expect(await shell(`image save none/there.tar ${node.image}`)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^none\/there.tar: saving\nkeelson: none\/there.tar could not be written: ENOENT/),
    });
    expect(await readFile(at("kept.tar"), "utf8")).toBe("kept");
    expect((await readdir(node.directory)).filter((name) => name.includes("unfinished"))).toEqual([]);
    expect((await shell("printf nonsense | image load -")).stderr).toContain("not a valid tar file");
    expect((await shell("image load no-such-file")).stderr).toContain("There is no file or directory");
  });

  test("if the reader of its output exits early, keelson exits with status 1 and no stack trace", async () => {
    const { stdout, stderr } = await shell(`image save - ${node.image} | head -c 100 | wc -c; echo \${PIPESTATUS[0]}`);
    expect(stdout).toBe("100\n1\n");
    expect(stderr.split("\n").filter((line) => line !== "" && line !== "-: saving").length).toBeLessThan(2);
    expect(stderr).not.toContain("    at ");
    const list = await shell("image ls > >(true); echo $?");
    expect(list.stderr).not.toContain("    at ");
  });

  test("a full disk is reported, and the partial archive is removed", async () => {
    const line = `
      mkdir -p full; mount -t tmpfs -o size=256k tmpfs full
      image save full/a.tar ${node.image}; echo $?; ls -A full
      image save - ${node.image} > full/b.tar; echo $?; rm full/b.tar
      TMPDIR=$PWD/full image load - < <(cat whole.tar); echo $?; ls -A full
      umount full`;
    const { stdout, stderr } = await execute(
      "unshare",
      ["--mount", "bash", "-c", `${line.replaceAll("image ", `${program} image --socket ${node.daemon.socket} `)}`],
      { cwd: node.directory },
    );
    expect(stdout).toBe("1\n1\n1\n");
    expect(stderr.match(/could not be written: ENOSPC/g)).toHaveLength(3);
  });

  test("a closed terminal leaves no partial archive", async () => {
    const place = at("closed");
    await mkdir(place);
    const loading = spawn(program, ["image", "load", "-", "--socket", node.daemon.socket], {
      env: { ...process.env, TMPDIR: place },
    });
    const said = text(loading.stderr);
    loading.stdin.write("half");
    await until("the input is being stored", 10_000, async () =>
      (await readdir(place)).length > 0 ? true : undefined,
    );
    loading.kill("SIGHUP");
    expect(await once(loading, "exit")).toEqual([1, null]);
    expect(await said).toContain("keelson: Interrupted before completion");
    expect(await readdir(place)).toEqual([]);
  });

  test("the image can be removed while the reader is stalled, and the archive is still complete", async () => {
    const save = async () => {
      const child = spawn(program, ["image", "save", "-", node.image, "--socket", node.daemon.socket]);
      // It blocks when the pipe is full.
      await once(child.stdout, "readable");
      await vi.waitFor(() => expect(child.stdout.readableLength).toBeGreaterThanOrEqual(64 << 10), 10_000);
      return child;
    };
    const [interrupted, read] = await Promise.all([save(), save()]);
    interrupted.kill("SIGINT");
    expect(await once(interrupted, "exit")).toEqual([1, null]);
    interrupted.stdout.destroy();
    await shell(`image rm ${node.image}; image rm localhost/test/other:2`);
    expect(await readdir(at("root/image/blobs/sha256"))).toEqual([]);
    expect(await stat(at("root/image/index.json"))).toMatchObject({});
    const whole = await buffer(read.stdout);
    expect(whole.equals(await readFile(at("whole.tar")))).toBe(true);
  });
});
