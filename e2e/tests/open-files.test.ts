// The limit on open files of a container's processes: the one that the daemon was started with, before Node raised it.

import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";

const handlers = await ociHandlers();
const [soft, hard] = [1024, 4096];
let node: TestNode;
beforeAll(async () => {
  node = await startNode({ handlers, enter: ["prlimit", `--nofile=${soft}:${hard}`] });
});
afterAll(() => node.close());

test.for(["native", "runc", "crun"])(
  "a start and an exec have the daemon's limits, handler %s",
  async (name, { skip }) => {
    skip(lacks(handlers, name));
    const { client } = node;
    const pod = node.podConfig(`open-files-${name}`);
    const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler: name });
    const script = "echo $(ulimit -Sn) $(ulimit -Hn)";
    const containerId = await node.runContainer(pod, podSandboxId, name, `${script} >/limits; sleep 1000`);
    const cmd = ["sh", "-c", `while [ ! -s /limits ]; do sleep 0.1; done; cat /limits; ${script}`];
    const { stdout } = await client.execSync({ containerId, cmd });
    expect(Buffer.from(stdout).toString()).toBe(`${soft} ${hard}\n${soft} ${hard}\n`);
  },
);
