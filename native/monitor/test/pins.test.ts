// Where a pod's namespaces are pinned.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { withPod } from "./monitor-pod.ts";

/** On a shared mount, as below /run where systemd runs. */
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "keelson-pins-"));
  execFileSync("mount", ["-t", "tmpfs", "--make-shared", "tmpfs", directory]);
  mkdirSync(join(directory, "netns"));
});
afterEach(() => {
  execFileSync("umount", ["--recursive", directory]);
  rmdirSync(directory);
});

function mounts(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((at) => at.startsWith(`${directory}/`));
}

test("the network namespace is pinned where sandbox.json says, and ns/net is a link to it", async () => {
  const netns = join(directory, "netns", "a-pod");
  await withPod({ netns }, async (pod) => {
    const link = join(pod.directory, "ns/net");
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readlinkSync(link)).toBe(netns);
    const { pid } = await pod.run("a", {});
    expect(`net:[${statSync(link).ino}]`).toBe(readlinkSync(`/proc/${pid}/ns/net`));
    expect(mounts()).toEqual([netns]);
  });
  expect(mounts()).toEqual([]);
  expect(existsSync(netns)).toBe(false);
});

test("a shutdown removes the pin, even if ip-netns(8) has meanwhile mounted its directory onto itself", async () => {
  const pins = join(directory, "netns");
  await withPod({ netns: join(pins, "a-pod") }, async () => {
    execFileSync("mount", ["--rbind", pins, pins]);
    execFileSync("mount", ["--make-shared", pins]);
    expect(mounts().length).toBeGreaterThan(1);
  });
  expect(mounts()).toEqual([pins]);
});

test("a pin that exists already, or whose directory is missing, fails the start and is left alone", async () => {
  const taken = join(directory, "netns", "taken");
  execFileSync("touch", [taken]);
  await expect(withPod({ netns: taken }, async () => undefined)).rejects.toThrow(`create ${taken}`);
  expect(existsSync(taken)).toBe(true);
  const nowhere = join(directory, "nowhere", "a-pod");
  await expect(withPod({ netns: nowhere }, async () => undefined)).rejects.toThrow(`create ${nowhere}`);
  await expect(withPod({ netns: "relative" }, async () => undefined)).rejects.toThrow("netns is not an absolute path");
});

test("ns/ipc and ns/uts are links, not mounts, to the namespaces that the pod's containers are in", async () => {
  await withPod({}, async (pod) => {
    const space = (of: number | string, type: string) => readlinkSync(`/proc/${of}/ns/${type}`);
    const states = [await pod.run("a", {}), await pod.run("b", {})];
    for (const type of ["ipc", "uts"]) {
      const path = join(pod.directory, "ns", type);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(path);
      expect(readlinkSync(readlinkSync(path))).toBe(space(pod.pid, type));
      expect(space(pod.pid, type)).not.toBe(space("self", type));
      for (const { pid } of states) expect(space(Number(pid), type)).toBe(space(pod.pid, type));
    }
    expect(space(pod.pid, "net")).toBe(space("self", "net"));
    expect(space(pod.pid, "mnt")).toBe(space("self", "mnt"));
  });
});
