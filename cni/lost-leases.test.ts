// Leases of host-local that a power cut has emptied: they are freed, by its own lock, and no others.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Lab, openLab } from "./testing/lab.ts";

const never = new AbortController().signal;
let lab: Lab;
beforeEach(async () => {
  lab = await openLab();
});
afterEach(() => lab[Symbol.asyncDispose]());

test("an empty lease is freed, and the next pod may have its address; whose name is in it stays", async () => {
  const { network, directory } = await networkWithPod();
  const held = await lab.reserved();
  const mode = 0o600;
  await writeFile(join(directory, `${lab.prefix}.9`), "", { mode });
  await writeFile(join(directory, `${lab.prefix}.10`), "somebody\r\neth0", { mode });
  await writeFile(join(directory, `${lab.prefix}.11`), "", { mode: 0o644 });
  await writeFile(join(directory, "not-an-address"), "", { mode });
  await network.collectGarbage(new Set(network.leases().map(({ sandboxId }) => sandboxId)));
  expect(await lab.reserved()).toEqual([...held, `${lab.prefix}.10`, `${lab.prefix}.11`, "not-an-address"].sort());
  expect(lab.logged.join("\n")).toContain(`${lab.prefix}.9`);
  expect(await readFile(join(directory, `${lab.prefix}.10`), "utf8")).toContain("somebody");
});

test("while host-local is at work nothing is touched, and nobody waits for long", async () => {
  const { network, directory } = await networkWithPod();
  const empty = join(directory, `${lab.prefix}.9`);
  const holder = spawn("flock", [
    join(directory, "lock"),
    "sh",
    "-c",
    `umask 077; : >${empty}; echo held; exec sleep 600`,
  ]);
  await once(holder.stdout, "data");
  const living = new Set(network.leases().map(({ sandboxId }) => sandboxId));
  await network.collectGarbage(living);
  expect(await readdir(directory)).toContain(`${lab.prefix}.9`);
  const gone = once(holder, "exit");
  for (const pid of await childrenOf(holder.pid)) process.kill(pid, "SIGKILL");
  await gone;
  await network.collectGarbage(living);
  expect(await readdir(directory)).not.toContain(`${lab.prefix}.9`);
});

async function networkWithPod() {
  await lab.install("bridge", "host-local");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([], { ipMasq: false }));
  const network = await lab.open();
  await network.attach(await lab.pod(), never);
  const [name = ""] = await readdir(lab.dataDir);
  return { network, directory: join(lab.dataDir, name) };
}

async function childrenOf(pid: number | undefined): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(" ").map(Number);
}
