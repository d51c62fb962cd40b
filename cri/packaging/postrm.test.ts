// What a purge of the package removes, tested in a mount namespace with private copies of the host's directories.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const script = join(import.meta.dirname, "debian/postrm");

/** The paths left below /var/lib/keelson and /run/netns, themselves included, after a purge of a host set up by `prepare`. */
async function purged(prepare: string): Promise<string> {
  const places = ["/var/lib", "/run", "/etc"].map((place) => `mount -t tmpfs tmpfs ${place}`).join("; ");
  const host = `${places}; mkdir -p /run/keelson /var/lib/keelson; ${prepare}; mkdir -p /var/lib/keelson/image/layers`;
  const left = "find /var/lib/keelson /run/netns 2>/dev/null || true";
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

test("pins of pods' network namespaces are removed, those of other programs stay", async () => {
  const pin = (name: string) => `touch /run/netns/${name}; mount --bind /proc/self/ns/net /run/netns/${name}`;
  const link = "mkdir -p /run/keelson/pods/p/ns; ln -s /run/netns/p /run/keelson/pods/p/ns/net";
  expect(await purged(`mkdir /run/netns; ${pin("p")}; ${pin("blue")}; ${link}`)).toBe("/run/netns\n/run/netns/blue\n");
});
