// The bundle of a container is a valid OCI bundle: Debian's runc and crun can run it unmodified.

import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(async () => {
  await node.close();
});

const script = [
  "echo $FROM_REQUEST in $(hostname)",
  "ip -4 addr show eth0 | grep -o 'inet [0-9.]*'",
  "grep CapEff /proc/self/status",
  "grep Seccomp: /proc/self/status",
  "test -w / && echo writable",
  "exit 3",
].join("; ");

test.each(["runc", "crun"])("%s runs the bundle of a created container", async (binary) => {
  const { client, image } = node;
  const pod = node.podConfig(`bundle-${binary}`);
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const ip = (await client.podSandboxStatus({ podSandboxId })).status?.network?.ip;
  const { containerId } = await client.createContainer({
    podSandboxId,
    sandboxConfig: pod,
    config: {
      metadata: { name: "c", attempt: 0 },
      image: { image },
      command: ["sh", "-c", script],
      envs: [{ key: "FROM_REQUEST", value: Buffer.from("greetings") }],
      linux: { securityContext: { seccomp: { profileType: 0 } } },
    },
  });
  const { info } = await client.containerStatus({ containerId, verbose: true });
  const bundle: unknown = JSON.parse(info?.info ?? "{}").bundle;
  if (typeof bundle !== "string") throw new Error("the verbose status has no bundle");

  const { output, status } = await runWith(binary, bundle);
  expect(output).toEqual([
    `greetings in bundle-${binary}`,
    `inet ${ip}`,
    "CapEff:\t00000000a80425fb",
    "Seccomp:\t2",
    "writable",
  ]);
  expect(status).toBe(3);
  await client.removePodSandbox({ podSandboxId });
});

/** Runs the bundle with the runtime; its root is mounted from rootfs.json as described in PROTOCOL.md. */
async function runWith(binary: string, bundle: string): Promise<{ output: string[]; status: number }> {
  const { lower, upper, work } = JSON.parse(await readFile(join(bundle, "rootfs.json"), "utf8"));
  const options = `lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work}`;
  const rootfs = join(bundle, "rootfs");
  const root = await mkdtemp(join(tmpdir(), "keelson-oci-root-"));
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, rootfs]);
  try {
    const words = ["--root", root, "run", "--bundle", bundle, `keelson-bundle-${process.pid}`];
    try {
      return {
        output: lines(execFileSync(binary, words, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })),
        status: 0,
      };
    } catch (error) {
      if (error instanceof Error && "stdout" in error && "status" in error) {
        return { output: lines(String(error.stdout)), status: Number(error.status) };
      }
      throw error;
    }
  } finally {
    execFileSync("umount", [rootfs]);
    await rm(root, { recursive: true, force: true });
  }
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}
