// Published attacks on container runtimes, tried through CRI requests: privileges that processes must not get, and
// files and sockets that other users must not reach. The numbers are the rows of ATTACKS.md.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { startRegistry, type TestRegistry } from "../../image/testing/registry.ts";
import { pullHostileImage } from "../fixtures/hostile-image.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { monitorPids } from "../fixtures/processes.ts";
import { until } from "../fixtures/steps.ts";

const handlers = await ociHandlers();
let node: TestNode;
let registry: TestRegistry;
beforeAll(async () => {
  [node, registry] = await Promise.all([startNode({ handlers }), startRegistry()]);
});
afterAll(async () => {
  await node.close();
  await registry.stop();
});

const sleeping = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];

async function run(name: string, more: object, runtimeHandler = "") {
  const { client, image } = node;
  const pod = node.podConfig(name);
  const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler });
  const config = { metadata: { name, attempt: 0 }, image: { image }, command: sleeping, linux: {}, ...more };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  return { podSandboxId, containerId };
}

test.for(["native", "runc", "crun"])(
  "8, 9, 10, 21: start and exec run as the requested user without inheritable capabilities, with handler %s",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler));
    const { client } = node;
    // crun's `exec -u 1` ran as root (CVE-2026-30892). Also, a user of the image has a number as its name.
    const passwd = "root:x:0:0::/:/bin/sh\n1:x:0:0::/:\nfour:x:4:5::/:\n";
    const image = await pullHostileImage(node, registry, `users-${handler}`, [{ name: "etc/passwd", content: passwd }]);
    const wishes = [
      { securityContext: { runAsUser: { value: Long.fromInt(1) } }, ids: "1 0" },
      {
        securityContext: { runAsUser: { value: Long.fromInt(1) }, runAsGroup: { value: Long.fromInt(7) } },
        ids: "1 7",
      },
      { securityContext: { runAsUsername: "four" }, ids: "4 5" },
    ];
    for (const [at, { securityContext, ids }] of wishes.entries()) {
      const linux = { securityContext };
      const more = { image: { image }, linux, logPath: `users-${handler}-${at}.log` };
      const told = "echo $(id -u) $(id -g) $(grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status)";
      const command = ["sh", "-c", `${told}; ${sleeping[2]}`];
      const { podSandboxId, containerId } = await run(`users-${handler}-${at}`, { ...more, command }, handler);
      const none = "0000000000000000";
      const wanted = `${ids} CapInh: ${none} CapPrm: ${none} CapEff: ${none} CapAmb: ${none}`;
      const { stdout } = await client.execSync({ containerId, cmd: ["sh", "-c", told] });
      expect(stdout.toString()).toBe(`${wanted}\n`);
      const logged = await until("it has written its log", 5000, async () => {
        const text = await readFile(join(node.logs, more.logPath), "utf8");
        return text.endsWith("\n") ? text : undefined;
      });
      expect(logged).toContain(` F ${wanted}\n`);
      await client.removePodSandbox({ podSandboxId });
    }
  },
);

test("23: ids that are paths match no object, and generated ids are 64 hexadecimal digits", async () => {
  const { client } = node;
  const { podSandboxId, containerId } = await run("ids", {});
  for (const id of [podSandboxId, containerId]) expect(id).toMatch(/^[0-9a-f]{64}$/);
  for (const odd of [`../${containerId}`, `${containerId}/..`, "..", "/", "a/b", `${containerId}\0`]) {
    const notFound = { code: status.NOT_FOUND };
    await expect(client.containerStatus({ containerId: odd })).rejects.toMatchObject(notFound);
    await expect(client.startContainer({ containerId: odd })).rejects.toMatchObject(notFound);
    await expect(client.execSync({ containerId: odd, cmd: ["true"] })).rejects.toMatchObject(notFound);
    await expect(client.podSandboxStatus({ podSandboxId: odd })).rejects.toMatchObject(notFound);
    // Removing an object that does not exist succeeds.
    await client.removeContainer({ containerId: odd });
    await client.removePodSandbox({ podSandboxId: odd });
  }
  const { status: told } = await client.containerStatus({ containerId });
  expect(told?.state).toBe(runtime.v1.ContainerState.CONTAINER_RUNNING);
  await client.removePodSandbox({ podSandboxId });
});

test("30, 38, 73: only root can run an image's set-user-ID program on the host or list our directories (CVE-2021-41103)", async () => {
  const program = { name: "bin/suid", content: randomBytes(64), mode: 0o4755 };
  const image = await pullHostileImage(node, registry, "suid", [program]);
  const { podSandboxId } = await run("suid", { image: { image } });
  // Otherwise the mode of the test's own directory would deny access.
  await chmod(node.directory, 0o755);
  const found: string[] = [];
  for (const part of ["root", "run"]) {
    const files = await readdir(join(node.directory, part), { recursive: true, withFileTypes: true });
    found.push(...files.filter(({ name }) => name === "suid").map((file) => join(file.parentPath, file.name)));
  }
  expect(found.length).toBeGreaterThan(0);
  const asNobody = (...words: string[]) =>
    execFileSync("busybox", words, { uid: 65534, gid: 65534, encoding: "utf8", stdio: "pipe" });
  for (const path of found) expect(() => asNobody("stat", path), path).toThrow("Permission denied");
  for (const part of ["root", "run"]) {
    expect(() => asNobody("ls", join(node.directory, part)), part).toThrow("Permission denied");
    expect(asNobody("sh", "-c", `find ${join(node.directory, part)} -type f 2>/dev/null || :`)).toBe("");
  }
  await node.client.removePodSandbox({ podSandboxId });
});

test("81: a container above its memory limit is OOM-killed; its monitor survives and reports it (CVE-2019-14891)", async () => {
  const { client } = node;
  const command = ["sh", "-c", "until [ -e /go-on ]; do sleep 0.05; done; exec tail /dev/zero"];
  const resources = { memoryLimitInBytes: Long.fromInt(32 << 20) };
  const before = new Set(await monitorPids(node.directory));
  const { podSandboxId, containerId } = await run("bomb", { command, linux: { resources } });
  const [monitor = 0] = (await monitorPids(node.directory)).filter((pid) => !before.has(pid));
  const { info } = await client.containerStatus({ containerId, verbose: true });
  const { pid } = JSON.parse(info.info ?? "{}");
  const [own, container] = await Promise.all(
    [monitor, pid].map(async (process: number) => readFile(`/proc/${process}/cgroup`, "utf8")),
  );
  expect(container).toContain(containerId);
  expect(own).not.toContain(podSandboxId);
  await client.execSync({ containerId, cmd: ["touch", "/go-on"] });
  const ended = await until("the container has exited", 20_000, async () => {
    const { status: told } = await client.containerStatus({ containerId });
    return told?.state === runtime.v1.ContainerState.CONTAINER_EXITED ? told : undefined;
  });
  expect(ended).toMatchObject({ exitCode: 137, reason: "OOMKilled" });
  expect(await monitorPids(node.directory)).toContain(monitor);
  await client.removePodSandbox({ podSandboxId });
});
