// A node whose disk is full, or read-only: every call says so by name, with the path and what to do, and room brings all back.

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

/** Not a byte is left. */
async function fill(): Promise<void> {
  const { bavail, bsize } = await statfs(mountPoint);
  await writeFile(filler(), Buffer.alloc(bavail * bsize));
}

/** A pod, a container in it, from a node that can make neither. */
async function refusals(name: string, podSandboxId: string): Promise<unknown[]> {
  const pod = node.podConfig(name);
  const container = { metadata: { name, attempt: 0 }, image: { image: node.image }, command: ["true"], linux: {} };
  const calls = [
    node.client.runPodSandbox({ config: pod }),
    node.client.createContainer({ podSandboxId, sandboxConfig: node.podConfig("there"), config: container }),
  ];
  return (await Promise.allSettled(calls)).map((call) => (call.status === "rejected" ? call.reason : call.value));
}

test("a full disk is ResourceExhausted with its path and what to do, and room brings all back", async () => {
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

test("a read-only disk is ResourceExhausted with its path and what to do", async () => {
  const { podSandboxId } = await node.client.runPodSandbox({ config: node.podConfig("there") });
  // As if the disk under the daemon had become read-only: what is open stays so, what is opened from now on finds it.
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

test("a daemon without a descriptor to spare is ResourceExhausted, and works on when it has some", async () => {
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
  "a daemon that can start no process is ResourceExhausted, and removes what there is",
  async () => {
    const pod = node.podConfig("there");
    const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
    const containerId = await node.runContainer(pod, podSandboxId, "before", "sleep 1000");
    // As where pods have taken all process ids of the node.
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
