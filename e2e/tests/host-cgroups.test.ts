// A privileged pod must not change the cgroup v2 mount options of a node with only cgroup v2. The daemon runs in a
// mount namespace with the mounts of such a host; the cgroup v2 hierarchy itself exists only once.

import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readMountTable } from "../../native/index.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";

const option = "memory_recursiveprot";
const handlers = await ociHandlers();
const before = await options();
let node: TestNode;
beforeAll(async () => {
  const mount = `mount -t cgroup2 -o ${before || "rw"},${option} none /sys/fs/cgroup`;
  const script = `umount -l -R /sys/fs/cgroup && ${mount} && exec "$0" "$@"`;
  node = await startNode({ handlers, enter: ["unshare", "--mount", "--propagation", "private", "sh", "-c", script] });
});
afterAll(async () => {
  await node.close();
  const mount = `mount -t cgroup2 -o ${before || "rw"} none /mnt`;
  execFileSync("unshare", ["--mount", "--propagation", "private", "sh", "-c", mount]);
});

/** The cgroup v2 mount options, which are shared by the whole host. */
async function options(): Promise<string> {
  return (await readMountTable()).find(({ type }) => type === "cgroup2")?.options ?? "";
}

test.for(["native", "runc", "crun"])(
  "a privileged container does not change the mount options of cgroup v2, with handler %s",
  async (handler, { skip }) => {
    skip(before === "", "this host has no cgroup v2 mounted");
    skip(lacks(handlers, handler));
    const linux = { securityContext: { privileged: true } };
    const pod = { ...node.podConfig(handler), linux };
    const { client, image } = node;
    const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler: handler });
    const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: ["sleep", "600"], linux };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    expect(await options()).toContain(option);
    await client.startContainer({ containerId });
    expect(await options()).toContain(option);
    const { stdout } = await client.execSync({ containerId, cmd: ["cat", "/proc/self/mountinfo"] });
    expect(Buffer.from(stdout).toString()).toMatch(/ \/sys\/fs\/cgroup rw,.* - cgroup2 /);
    await client.removePodSandbox({ podSandboxId });
  },
);
