// The completions, run in a real bash.

import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { commands, imageVerbs } from "../cli/commands.ts";
import { bash, fish, zsh } from "./completions.ts";

const execute = promisify(execFile);
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-completions-"));
  await writeFile(join(directory, "completion"), bash());
  await writeFile(join(directory, "pod.yaml"), "");
  const listed = "IMAGE  ID  SIZE\\nlocalhost/a:1  12  1 MB\\nlocalhost/a:2  34  1 MB\\n<none>  56  1 MB\\n";
  await writeFile(join(directory, "keelson"), `#!/bin/sh\n[ "$*" = "image ls" ] && printf '${listed}'\n`);
  await chmod(join(directory, "keelson"), 0o755);
});
afterAll(() => rm(directory, { recursive: true }));

/** The completions that bash offers at the end of a line. */
async function offered(line: string): Promise<string[]> {
  const script = `
    source ./completion
    COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
    _keelson 2>&1
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const env = { PATH: `${directory}:/usr/bin:/bin` };
  const { stdout } = await execute("bash", ["-c", script, "bash", line], { cwd: directory, env });
  return stdout.split("\n").filter(Boolean);
}

test("each command, and each option of each", async () => {
  expect(await offered("keelson ")).toEqual(commands.map(({ name }) => name));
  expect(await offered("keelson s")).toEqual(["serve", "status"]);
  for (const { name, options } of commands)
    expect(await offered(`keelson ${name} --`)).toEqual([...options, "help"].map((option) => `--${option}`));
  expect(await offered("keelson --")).toEqual(["--help", "--version"]);
});

test("option values and the words after them are completed", async () => {
  expect(await offered("keelson serve --log-level ")).toEqual(["debug", "info", "warn", "error"]);
  expect(await offered("keelson status --output j")).toEqual(["json"]);
  expect(await offered("keelson --config pod.yaml che")).toEqual(["check"]);
  expect(await offered("keelson play --config po")).toEqual(["pod.yaml"]);
});

test("image verbs and their operands are completed: files and existing images", async () => {
  expect(await offered("keelson image ")).toEqual(imageVerbs.map(({ name }) => name));
  expect(await offered("keelson image --output json l")).toEqual(["ls", "load"]);
  expect(await offered("keelson image load p")).toEqual(["pod.yaml"]);
  expect(await offered("keelson image rm ")).toEqual(["localhost/a:1", "localhost/a:2"]);
  expect(await offered("keelson image rm local")).toEqual(["localhost/a:1", "localhost/a:2"]);
  // In a word with a colon bash replaces only the part after it.
  expect(await offered("keelson image rm localhost/a:1 localhost/a:")).toEqual(["1", "2"]);
  expect(await offered("keelson image save p")).toEqual(["pod.yaml"]);
  expect(await offered("keelson image save pod.yaml local")).toEqual(["localhost/a:1", "localhost/a:2"]);
  expect(await offered("keelson image ls ")).toEqual([]);
});

test("operands of other commands are completed", async () => {
  expect(await offered("keelson play pod")).toEqual(["pod.yaml"]);
  expect(await offered("keelson help im")).toEqual(["image"]);
  expect(await offered("keelson serve ")).toEqual([]);
});

test("zsh and fish completions cover all commands, options and verbs", () => {
  for (const text of [zsh(), fish()]) {
    for (const { name, options } of commands) {
      expect(text).toContain(name);
      for (const option of options) expect(text).toContain(option);
    }
    for (const { name, summary } of imageVerbs) expect(text).toMatch(new RegExp(`${name}.*${summary}`));
  }
});
