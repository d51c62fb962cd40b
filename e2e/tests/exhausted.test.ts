// A node that runs out of disk space, descriptors or processes: every call fails with the path and a remedy, and
// succeeds once there is room again.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, rmdir, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { forkServerPids } from "../fixtures/processes.ts";

let mountPoint: string;
let node: TestNode;
const { TMPDIR } = process.env;
beforeAll(async () => {
  mountPoint = await mkdtemp(join(tmpdir(), "keelson-small-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64m", "none", mountPoint]);
  process.env.TMPDIR = mountPoint;
  node = await startNode();
});
afterAll(async () => {
  await node.close();
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  execFileSync("umount", [mountPoint]);
  await rm(mountPoint, { recursive: true });
});

const filler = () => join(mountPoint, "filler");

/** Fills the disk completely. */
async function fill(): Promise<void> {
  const { bavail, bsize } = await statfs(mountPoint);
  await writeFile(filler(), Buffer.alloc(bavail * bsize));
}

/** The errors of creating a pod, and a container in another pod. */
async function refusals(name: string, podSandboxId: string): Promise<unknown[]> {
  const pod = node.podConfig(name);
  const container = { metadata: { name, attempt: 0 }, image: { image: node.image }, command: ["true"], linux: {} };
  const calls = [
    node.client.runPodSandbox({ config: pod }),
    node.client.createContainer({ podSandboxId, sandboxConfig: node.podConfig("there"), config: container }),
  ];
  return (await Promise.allSettled(calls)).map((call) => (call.status === "rejected" ? call.reason : call.value));
}

test("a full disk is reported as ResourceExhausted with its path and a remedy, and calls succeed once there is room", async () => {
  const { podSandboxId } = await node.client.runPodSandbox({ config: node.podConfig("there") });
  await fill();
  try {
    for (const error of await refusals("full", podSandboxId)) {
      expect(error).toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        details: expect.stringMatching(
          new RegExp(`failed because of a full file system: .*${mountPoint}.* Free space or inodes on`),
        ),
      });
    }
  } finally {
    await rm(filler());
  }
  await node.runContainer(node.podConfig("there"), podSandboxId, "after", "sleep 1000");
  await node.client.runPodSandbox({ config: node.podConfig("full") });
  await node.removePods();
});

test("a read-only disk is reported as ResourceExhausted with its path and a remedy", async () => {
  const { podSandboxId } = await node.client.runPodSandbox({ config: node.podConfig("there") });
  // As if the disk had become read-only: open files stay writable, files opened from now on are not.
  execFileSync("mount", ["--bind", mountPoint, mountPoint]);
  execFileSync("mount", ["-o", "remount,bind,ro", mountPoint]);
  try {
    for (const error of await refusals("ro", podSandboxId)) {
      expect(error).toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        details: expect.stringMatching(
          new RegExp(
            `failed because of a read-only file system: .*Mount the file system of ${mountPoint}\\S* writable; `,
          ),
        ),
      });
    }
  } finally {
    execFileSync("umount", [mountPoint]);
  }
  await node.removePods();
});

test("a daemon without free descriptors returns ResourceExhausted, and works again when it has some", async () => {
  const pod = node.podConfig("there");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const limit = (soft: string) => execFileSync("prlimit", ["--pid", String(node.daemon.pid), `--nofile=${soft}:`]);
  const before = execFileSync("prlimit", ["--pid", String(node.daemon.pid), "--nofile", "--noheadings", "-o", "SOFT"]);
  const config = { metadata: { name: "c", attempt: 0 }, image: { image: node.image }, command: ["true"], linux: {} };
  limit("3");
  try {
    await expect(node.client.createContainer({ podSandboxId, sandboxConfig: pod, config })).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringMatching(
        /failed because of the daemon's limit of open files: .*(EMFILE|Too many open files).* Raise it \(LimitNOFILE=/,
      ),
    });
  } finally {
    limit(before.toString().trim());
  }
  await node.runContainer(pod, podSandboxId, "after", "sleep 1000");
  await node.removePods();
});

const pidsCgroups = "/sys/fs/cgroup/pids";
test.runIf(existsSync(pidsCgroups))(
  "a daemon that cannot start processes returns ResourceExhausted, and can still remove containers",
  async () => {
    const pod = node.podConfig("there");
    const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
    const containerId = await node.runContainer(pod, podSandboxId, "before", "sleep 1000");
    // As if pods had used up all PIDs of the node.
    const cgroup = await mkdtemp(join(pidsCgroups, "keelson-exhausted-"));
    const move = async (to: string) => {
      for (const pid of [node.daemon.pid, ...(await forkServerPids(node.directory))])
        await writeFile(join(to, "cgroup.procs"), String(pid));
    };
    await move(cgroup);
    await writeFile(join(cgroup, "pids.max"), await readFile(join(cgroup, "pids.current")));
    try {
      const config = {
        metadata: { name: "c", attempt: 0 },
        image: { image: node.image },
        command: ["true"],
        linux: {},
      };
      const mounts = [{ hostPath: mountPoint, containerPath: "/mnt" }];
      const create = { podSandboxId, sandboxConfig: pod, config: { ...config, mounts } };
      await expect(node.client.createContainer(create)).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        details: expect.stringMatching(/failed because of a limit of processes and threads: .* raise kernel\.pid_max/),
      });
      await expect(node.client.runPodSandbox({ config: node.podConfig("next") })).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
        details: expect.stringContaining("fork a monitor: Resource temporarily unavailable"),
      });
      await node.client.removeContainer({ containerId });
    } finally {
      await move(pidsCgroups);
      await rmdir(cgroup);
    }
    await node.runContainer(pod, podSandboxId, "after", "sleep 1000");
    await node.removePods();
  },
);
