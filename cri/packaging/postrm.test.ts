// What a purge of the package removes, tested in a mount namespace with private copies of the host's directories.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const script = join(import.meta.dirname, "debian/postrm");

/** The paths left below /var/lib/keelson, itself included, after a purge of a host set up by `prepare`. */
async function purged(prepare: string): Promise<string> {
  const places = ["/var/lib", "/run", "/etc"].map((place) => `mount -t tmpfs tmpfs ${place}`).join("; ");
  const host = `${places}; mkdir -p /run/keelson /var/lib/keelson; ${prepare}; mkdir -p /var/lib/keelson/image/layers`;
  const left = "find /var/lib/keelson 2>/dev/null || true";
  const lines = `set -e; ${host}; sh ${script} purge; ${left}`;
  const { stdout } = await promisify(execFile)("unshare", ["-m", "--propagation", "private", "sh", "-c", lines]);
  return stdout;
}

test("images and records are removed with their directory", async () => {
  expect(await purged(":")).toBe("");
});

test("a separate disk is emptied and stays mounted", async () => {
  expect(await purged("mount -t tmpfs tmpfs /var/lib/keelson")).toBe("/var/lib/keelson\n");
});
