// critest in a guest: a short list of specs, or all of them. Its images come from a registry in the guest.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { critestRegistries } from "../critest/images.ts";
import { readReport } from "../critest/report.ts";
import { socket, write } from "./keelson.ts";
import { registryAddress, serveRegistry } from "./registry.ts";
import type { Scene } from "./scene.ts";

/** `chosen`: what a host has a part in, cgroups, mounts, namespaces, and AppArmor, which our other machines do not have. */
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
const runSeconds = 4 * 3600;

/** Each spec counts as a step. */
export async function critest({ machine, step, print }: Scene, specs: Specs): Promise<void> {
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
    ...["-ginkgo.flake-attempts=1", "-ginkgo.json-report=/root/report.json"],
    ...(focus === undefined ? [] : [`-ginkgo.focus='${focus}'`]),
  ];
  await machine.run("rm -f /root/report.json");
  const { stdout } = await machine.attempt(
    `cd /root && /cargo/bin/critest ${flags.join(" ")} 2>&1 | tail -c 3000`,
    runSeconds,
  );
  const report = await machine.attempt("cat /root/report.json");
  if (report.code !== 0) throw new Error(`critest wrote no report; its output ends:\n${stdout}`);
  const file = join(await mkdtemp(join(tmpdir(), "keelson-critest-report-")), "report.json");
  try {
    await writeFile(file, report.stdout);
    for (const { name, state, message } of await readReport(file)) {
      if (state === "skipped") print(`skipped  ${name}: ${message}`);
      else await step(name, async () => assert.equal(state, "passed", message)).catch(() => "counted");
    }
  } finally {
    await rm(dirname(file), { recursive: true });
  }
}
