// critest in a guest: a short list of specs, or all of them. Its images come from a registry in the guest.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { critestRegistries } from "../critest/images.ts";
import { readReport, type SpecResult } from "../critest/report.ts";
import { socket, write } from "./keelson.ts";
import type { Machine } from "./machine.ts";
import { registryAddress, serveRegistry } from "./registry.ts";
import type { Scene } from "./scene.ts";

/**
 * `chosen`: specs that depend on the host: cgroups, mounts, namespaces, and AppArmor, which our other machines lack.
 */
const focuses = {
  all: undefined,
  chosen: [
    "AppArmor",
    "basic operations on PodSandbox",
    "basic operations on container",
    "OOMKilled",
    "runtime should support removing running container",
    "image with tag should be pulled and removed",
    "NamespaceOption",
    "NoNewPrivs",
    "mount volume",
  ].join("|"),
  few: "basic operations on PodSandbox",
};
export type Specs = keyof typeof focuses;
/** Also passed to ginkgo, whose default timeout is an hour. */
const runSeconds = 4 * 3600;
const readEveryMs = 10_000;

/** Each spec counts as a step and is printed when it ends, so that an interrupted run has printed what it got to. */
export async function critest({ machine, step, add, print }: Scene, specs: Specs): Promise<void> {
  const focus = focuses[specs];
  await step("the registry with critest's images", async () => {
    for (const name of critestRegistries) {
      const mirror = `[host."http://${registryAddress}"]\ncapabilities = ["pull", "resolve"]\n`;
      await machine.run(`mkdir -p /etc/keelson/registries/${name}`);
      await write(machine, `/etc/keelson/registries/${name}/hosts.toml`, mirror);
    }
    await serveRegistry(machine);
  });
  const flags = [
    ...[`-runtime-endpoint=unix://${socket}`, "-config=/root/no-such-config.yaml", "-ginkgo.no-color"],
    ...["-ginkgo.flake-attempts=1", "-ginkgo.json-report=/root/report.json", `-ginkgo.timeout=${runSeconds}s`],
    ...["-ginkgo.v", "-ginkgo.silence-skips"],
    ...(focus === undefined ? [] : [`-ginkgo.focus='${focus}'`]),
  ];
  await machine.run("rm -f /root/report.json && true >/root/critest.log");
  const running = machine.attempt(`cd /root && /cargo/bin/critest ${flags.join(" ")} >critest.log 2>&1`, runSeconds);
  await printFinishedSpecs(machine, running, print);
  await running;
  const report = await machine.attempt("cat /root/report.json");
  if (report.code !== 0) {
    const end = await machine.run("tail -c 3000 /root/critest.log");
    throw new Error(`critest wrote no report; its output ends:\n${end}`);
  }
  for (const { name, state, message } of await resultsOf(report.stdout)) {
    if (state === "skipped") print(`skipped  ${name}: ${message}`);
    else if (state === "passed") add({ passed: 1, failed: 0 });
    else await step(name, () => Promise.reject(new Error(message))).catch(() => "counted");
  }
}

/** Follows ginkgo's verbose output: per spec a line of dashes, its name, and at its end a mark and its duration. */
async function printFinishedSpecs(
  machine: Machine,
  running: Promise<unknown>,
  print: (line: string) => void,
): Promise<void> {
  let [name, partOfLine, read] = ["", "", 0];
  const ended = running.then(
    () => true,
    () => true,
  );
  for (let isOver = false; !isOver; ) {
    isOver = await Promise.race([ended, delay(readEveryMs, false, { ref: false })]);
    const { stdout } = await machine.attempt(`tail -c +${read + 1} /root/critest.log`);
    read += stdout.length;
    const lines = `${partOfLine}${stdout}`.split("\n");
    partOfLine = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("[k8s.io] ")) name = line;
      const [, mark] = line.match(/^([^ ] .*\[[0-9.]+ seconds\])$/) ?? [];
      if (mark !== undefined) print(`${mark} ${name}`);
    }
  }
}

async function resultsOf(report: Buffer): Promise<readonly SpecResult[]> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-critest-report-"));
  try {
    const file = join(directory, "report.json");
    await writeFile(file, report);
    return await readReport(file);
  } finally {
    await rm(directory, { recursive: true });
  }
}
