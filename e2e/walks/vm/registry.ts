// A registry in a guest, with images from the cargo disk; read-only, as the disk is.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startRegistry, type TestRegistry } from "../../../image/testing/registry.ts";
import type { Machine } from "./machine.ts";

export const registryAddress = "127.0.0.1:5000";

/** Writes the images that `push` uploads, and the registry's configuration, into the cargo. */
export async function fillRegistry(cargo: string, push: (registry: TestRegistry) => Promise<void>): Promise<void> {
  const directory = join(cargo, "registry");
  await mkdir(directory);
  const registry = await startRegistry({ storage: join(directory, "data") });
  try {
    await push(registry);
  } finally {
    await registry.stop();
  }
  const storage = {
    filesystem: { rootdirectory: "/cargo/registry/data" },
    maintenance: { readonly: { enabled: true } },
  };
  // YAML is a superset of JSON.
  const config = { version: "0.1", log: { level: "error" }, storage, http: { addr: registryAddress } };
  await writeFile(join(directory, "config.json"), JSON.stringify(config));
}

/** Must be called after each boot. */
export async function serveRegistry(machine: Machine): Promise<void> {
  await machine.run(`
    systemctl is-active --quiet registry && exit
    systemd-run --quiet --unit=registry docker-registry serve /cargo/registry/config.json
    until busybox wget -q -O /dev/null http://${registryAddress}/v2/; do sleep 1; done`);
}
