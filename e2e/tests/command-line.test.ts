// The command line of a running daemon: its status and its images, as text and as JSON.

import { execFile } from "node:child_process";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const program = join(import.meta.dirname, "../../cri/keelson");
let node: TestNode;
let flag: string;

/** The last plugin in the chain fails its DEL, or hangs in its ADD, if the flag file says so. */
beforeAll(async () => {
  node = await startNode({
    pluginDirectories: (directory) => [join(directory, "plugins"), "/usr/lib/cni"],
    prepare: async (directory) => {
      flag = join(directory, "flag");
      await mkdir(join(directory, "plugins"));
      const script = `#!/bin/sh
[ $CNI_COMMAND = ADD ] && grep -q hang ${flag} 2>/dev/null && exec sleep 600
[ $CNI_COMMAND = DEL ] && grep -q fail ${flag} 2>/dev/null && { echo '{"code": 100, "msg": "not today"}'; exit 1; }
[ $CNI_COMMAND = ADD ] && { sed 's/.*"prevResult":\\({.*}\\)}$/\\1/'; }
exit 0
`;
      await writeFile(join(directory, "plugins", "extra"), script);
      await chmod(join(directory, "plugins", "extra"), 0o755);
    },
  });
  await node.changePlugins((plugins) => {
    plugins.push({ type: "extra" });
  });
});
afterAll(() => node.close());

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return await promisify(execFile)(program, [...args, "--socket", node.daemon.socket]).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

test("status shows an idle node in seven lines, and as JSON", async () => {
  const { code, stdout } = await run("status");
  expect(code).toBe(0);
  expect(stdout.trimEnd().split("\n")).toEqual([
    expect.stringMatching(/^keelson {6}0\.1\.0, up \d.*, \d+ MB, .*keelson\.sock$/),
    "network      ready",
    "pods         0 ready, 0 not ready",
    "containers   0 running, 0 created, 0 exited",
    expect.stringMatching(/^images {7}1, [\d.]+ MB; writable layers 0 B$/),
    "in progress  nothing",
    "left over    nothing",
  ]);
  const json = JSON.parse((await run("status", "--output", "json")).stdout);
  expect(json).toMatchObject({ version: "0.1.0", images: 1, sandboxes: { ready: 0 }, work: [], leftovers: [] });
});

test("check --leaks lists orphaned leftovers, and how to remove them", async () => {
  const places = ["--config", join(node.directory, "config.toml")];
  const { podSandboxId } = await node.client.runPodSandbox({ config: node.podConfig("kept") });
  expect(await run("check", "--leaks", ...places)).toMatchObject({
    code: 0,
    stdout: "no leaks\n",
  });
  const stray = join(node.directory, "run/pods", "f".repeat(64));
  await mkdir(stray);
  const text = await run("check", "--leaks", ...places);
  expect(text).toMatchObject({
    code: 1,
    stdout: `pod directory      ${stray}\n${" ".repeat(19)}→ systemctl restart keelson\n`,
  });
  const listed = await run("check", "--leaks", "--output", "json", ...places);
  expect(JSON.parse(listed.stdout)).toEqual([
    { kind: "pod directory", object: stray, id: "f".repeat(64), remedy: "systemctl restart keelson" },
  ]);
  expect((await run("status", "--leaks")).stderr).toContain("Unknown option '--leaks' for keelson status");
  await rm(stray, { recursive: true });
  await node.client.removePodSandbox({ podSandboxId });
});

test("status lists hanging operations with their duration, and what could not be removed", async () => {
  const { podSandboxId } = await node.client.runPodSandbox({ config: node.podConfig("stays") });
  await writeFile(flag, "fail");
  await node.client.removePodSandbox({ podSandboxId });
  await writeFile(flag, "fail hang");
  const giveUp = new AbortController();
  const hanging = node.client.runPodSandbox({ config: node.podConfig("slow") }).catch(() => "failed");
  const shown = await until("the plugin hangs", 10_000, async () => {
    const { stdout } = await run("status");
    return /plugin +extra ADD/.test(stdout) ? stdout : undefined;
  });
  expect(shown).toMatch(/^in progress {2}\d/m);
  expect(shown).toMatch(/^ {2}\d+(\.\d)? s +call +RunPodSandbox/m);
  expect(shown).toMatch(new RegExp(`^left over {4}1\\n {2}${podSandboxId.slice(0, 13)}.*not today`, "m"));
  giveUp.abort();
  await writeFile(flag, "");
  await node.daemon.stop();
  expect(await hanging).toBe("failed");
  await node.daemon.start();
});

test("images are listed, pulled and removed by name", async () => {
  expect((await run("image", "ls")).stdout).toMatch(
    /^IMAGE +ID +SIZE\nlocalhost\/test\/busybox:1 +[0-9a-f]{12} +[\d.]+ MB\n$/,
  );
  const [image] = JSON.parse((await run("image", "ls", "--output", "json")).stdout);
  expect(image).toMatchObject({ names: expect.arrayContaining([node.image]), pinned: false });
  const missing = await run("image", "pull", "127.0.0.1:1/nothing:1");
  expect({ ...missing, stdout: missing.stdout }).toMatchObject({ code: 1, stdout: "" });
  expect(missing.stderr).toContain("RegistryUnavailable");
  expect(await run("image", "rm", "localhost/none:1")).toMatchObject({
    code: 1,
    stderr: "keelson: There is no image localhost/none:1. List the images with keelson image ls.\n",
  });
  expect(await run("image", "rm", node.image, "localhost/none:1")).toMatchObject({ code: 1, stdout: "" });
  expect((await run("image", "ls")).stdout, "nothing is removed when one is missing").toContain(node.image);
  await run("image", "tag", node.image, "localhost/test/other:1");
  expect(await run("image", "rm", node.image, "localhost/test/other:1")).toMatchObject({
    code: 0,
    stdout: `${image.id}\n`,
  });
  expect((await run("image", "ls")).stdout).toBe("IMAGE  ID  SIZE\n");
});

test.each([
  [
    ["image"],
    "keelson image needs one of: ls, pull REFERENCE, load FILE, save FILE REFERENCE…, tag REFERENCE NAME, rm REFERENCE…",
  ],
  [
    ["image", "rm"],
    "keelson image needs one of: ls, pull REFERENCE, load FILE, save FILE REFERENCE…, tag REFERENCE NAME, rm REFERENCE…",
  ],
  [["image", "ls", "busybox"], "Unexpected argument 'busybox' for keelson image ls"],
  [["image", "pull", "a", "b"], "Unexpected argument 'b' for keelson image pull"],
  [["status", "now"], "Unexpected argument 'now' for keelson status"],
  [["status", "--output", "yaml"], "--output is yaml; it must be text or json"],
])("%j is an invalid command line", async (args, sentence) => {
  const { code, stdout, stderr } = await run(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(sentence);
});
