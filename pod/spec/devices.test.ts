// Which of a host's devices a container gets: nodes in a directory of the test.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { containerConfig } from "../testing/configs.ts";
import { planDevices } from "./devices.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-devices-"));
});
afterEach(async () => await rm(directory, { recursive: true }));

async function makeNodes(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await mkdir(join(directory, name, ".."), { recursive: true });
    execFileSync("mknod", [join(directory, name), "c", "1", "3"]);
  }
}

async function privileged(): Promise<string[]> {
  const config = containerConfig("c", "img", []);
  const { devices } = await planDevices(
    { ...config, security: { ...config.security, privileged: true } },
    false,
    { ofDevice: async (path) => path },
    directory,
  );
  return devices.map(({ path }) => path).toSorted();
}

test("a privileged container gets all host devices, also in subdirectories, except those it has its own copy of", async () => {
  await makeNodes("null", "snd/seq", "net/deep/er/tun", "pts/0", "shm/null", "mqueue/null", "console", "ptmx", "tty");
  expect(await privileged()).toEqual(["/dev/net/deep/er/tun", "/dev/null", "/dev/snd/seq"]);
});

test("directories that any user creates in /dev/shm do not affect a privileged container's devices", async () => {
  await makeNodes("null");
  await mkdir(join(directory, "shm"));
  // Deeper than the maximum path length.
  const deeper = "while mkdir $1 && cd $1; do :; done 2>/dev/null; true";
  execFileSync("sh", ["-c", deeper, "sh", "d".repeat(250)], { cwd: join(directory, "shm") });
  try {
    expect(await privileged()).toEqual(["/dev/null"]);
  } finally {
    execFileSync("rm", ["-r", join(directory, "shm")]);
  }
});
