// Published attacks on container runtimes, tried through CRI requests; the numbers are the rows of ATTACKS.md.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { startRegistry, type TestRegistry } from "../../image/testing/registry.ts";
import { criuProgram } from "../fixtures/criu.ts";
import { pullHostileImage } from "../fixtures/hostile-image.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { anonymousKilobytes, monitorPids } from "../fixtures/processes.ts";
import { toolsDirectory } from "../fixtures/tools.ts";

const rounds = Number(process.env.KEELSON_RACE_ROUNDS ?? 60);
const sleeping = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
const criu = await criuProgram(toolsDirectory(process.env));
if (criu.kind === "unavailable") process.stdout.write(`skipped where CRIU is needed: ${criu.reason}\n`);
const handlers = await ociHandlers();
const secret = "keelson-secret-of-the-host";

let scratch: string;
let node: TestNode;
let registry: TestRegistry;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "keelson-attacks-"));
  const programs = criu.kind === "available" ? { programs: criu.directory } : {};
  [node, registry] = await Promise.all([startNode({ handlers, ...programs }), startRegistry()]);
});
afterAll(async () => {
  await node.close();
  await registry.stop();
  await rm(scratch, { recursive: true, force: true });
});

type Verbose = { readonly pid: number; readonly bundle: string };

async function about(containerId: string): Promise<Verbose> {
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return JSON.parse(info.info ?? "{}");
}

/** A host directory that no container has access to. */
async function outsideDirectory(name: string): Promise<string> {
  const outside = join(scratch, name);
  await mkdir(outside);
  await writeFile(join(outside, "decoy"), secret);
  return outside;
}

test("5: a link that a neighbour swaps in a shared volume never redirects the /proc mount (CVE-2019-19921)", async () => {
  const { client, image } = node;
  const outside = await outsideDirectory("proc-race");
  const hostPath = join(scratch, "shared");
  await mkdir(join(hostPath, "level1/proc"), { recursive: true });
  const linked = await pullHostileImage(node, registry, "proc-race", [{ name: "proc", link: "/shared/level1/proc" }]);
  const pod = node.podConfig("proc-race");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const start = async (name: string, of: string, command: string[], mounts: object[]) => {
    const config = { metadata: { name, attempt: 0 }, image: { image: of }, command, mounts, linux: {} };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    const said = await client.startContainer({ containerId }).then(
      () => "started",
      ({ details }) => details,
    );
    return { containerId, said };
  };
  const volume = { hostPath, containerPath: "/shared" };
  const flip = `cd /shared; ln -s ${outside} link; : > flipping
    while :; do mv level1 real; mv link level1; mv level1 link; mv real level1; done`;
  await start("flipper", image, ["sh", "-c", flip], [volume]);

  const outcomes = new Map<string, number>();
  for (let round = 0; round < rounds; round += 1) {
    // Alternately: /proc itself is a link into the volume, or a mount's target is below the flipped link.
    const below = { hostPath: scratch, containerPath: "/shared/level1/proc" };
    const [of, mounts] = round % 2 === 0 ? [linked, [volume]] : [image, [volume, below]];
    const { containerId, said } = await start(`victim-${round}`, of, sleeping, mounts);
    if (said === "started") {
      const { pid } = await about(containerId);
      expect(fileSystemAt("/proc", await readFile(`/proc/${pid}/mountinfo`, "utf8"))).toBe("proc");
    } else expect(said).toMatch(/mount target|mount \/shared|Not a directory|No such file|File exists|Too many/);
    const kind = `${round % 2 === 0 ? "link" : "below"}: ${said === "started" ? "started" : "refused"}`;
    outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
    await client.removeContainer({ containerId });
  }
  process.stdout.write(`      ${[...outcomes].map(([kind, count]) => `${kind} ${count}`).join(", ")}\n`);
  expect(outcomes.get("link: refused")).toBe(Math.ceil(rounds / 2));
  expect(outcomes.get("below: started")).toBeGreaterThan(0);
  expect(await readdir(hostPath)).toContain("flipping");
  expect(await readdir(outside)).toEqual(["decoy"]);
  await client.removePodSandbox({ podSandboxId });
}, 600_000);

/** The file system type of the topmost mount at this path. */
function fileSystemAt(path: string, mountinfo: string): string | undefined {
  const lines = mountinfo.split("\n").filter((line) => line.split(" ")[4] === path);
  return lines.at(-1)?.split(" - ")[1]?.split(" ")[0];
}

test.for(["native", "runc", "crun"])(
  "24: no annotation of a pod or a container reaches a bundle, with handler %s",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler));
    const { client, image } = node;
    const annotations = {
      "run.oci.delegate-cgroup": "../../escaped",
      "run.oci.systemd.subgroup": "../../escaped",
      "run.oci.handler": "krun",
      "run.oci.hooks.stderr": "/dev/null",
      "org.systemd.property.ExecStopPost": "['/bin/false']",
      "io.katacontainers.config.hypervisor.virtio_fs_extra_args": '["-o","source=/"]',
      "io.kubernetes.cri.container-type": "sandbox",
      "org.opencontainers.runc.exec": "1",
    };
    const pod = { ...node.podConfig(`annotations-${handler}`), annotations };
    const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler: handler });
    const config = {
      metadata: { name: "c", attempt: 0 },
      image: { image },
      command: sleeping,
      annotations,
      linux: {},
    };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await client.startContainer({ containerId });
    const { pid, bundle } = await about(containerId);
    const spec = JSON.parse(await readFile(join(bundle, "config.json"), "utf8"));
    expect(spec).not.toHaveProperty("hooks");
    expect(spec.annotations).toEqual({
      "io.kubernetes.cri.container-type": "container",
      "io.kubernetes.cri.sandbox-id": podSandboxId,
      "io.kubernetes.cri.sandbox-name": `annotations-${handler}`,
      "io.kubernetes.cri.sandbox-namespace": "test",
      "io.kubernetes.cri.container-name": "c",
    });
    // The client gets its annotations back, and the container's cgroup is in the usual place.
    expect((await client.containerStatus({ containerId })).status?.annotations).toEqual(annotations);
    const cgroups = await readFile(`/proc/${pid}/cgroup`, "utf8");
    expect(cgroups).not.toContain("escaped");
    expect(cgroups).toContain(`/${containerId}\n`);
    await client.removePodSandbox({ podSandboxId });
  },
);

test.skipIf(criu.kind === "unavailable")(
  "25: a checkpoint contains a container's links to the host, never their targets (CVE-2018-15664)",
  async () => {
    const { client, image } = node;
    const outside = await outsideDirectory("exported");
    const pod = node.podConfig("exported");
    const { podSandboxId } = await client.runPodSandbox({ config: pod });
    const script = `ln -s ${outside}/decoy /tmp/decoy; ln -s ../../../../../../../../../..${outside} /tmp/relative
      rm -rf /root; ln -s ${outside} /root; mkdir /lib64; ln -s ${outside} /lib64/gconv; touch /tmp/ready
      trap 'exit 0' TERM; while :; do sleep 0.1; done`;
    const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: ["sh", "-c", script], linux: {} };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await client.startContainer({ containerId });
    const wait = ["sh", "-c", "while [ ! -e /tmp/ready ]; do sleep 0.1; done"];
    await client.execSync({ containerId, cmd: wait });
    const location = join(scratch, "exported.tar");
    await client.checkpointContainer({ containerId, location });

    const unpacked = join(scratch, "unpacked");
    const diff = join(scratch, "diff");
    await Promise.all([unpacked, diff].map((path) => mkdir(path)));
    execFileSync("tar", ["-xf", location, "-C", unpacked]);
    expect(await readFile(join(unpacked, "rootfs-diff.tar"))).not.toContain(secret);
    execFileSync("tar", ["-xf", join(unpacked, "rootfs-diff.tar"), "-C", diff]);
    expect(await readlink(join(diff, "tmp/decoy"))).toBe(`${outside}/decoy`);
    expect(await readlink(join(diff, "root"))).toBe(outside);
    expect(await readlink(join(diff, "lib64/gconv"))).toBe(outside);
    expect(await readdir(outside)).toEqual(["decoy"]);
    await client.removePodSandbox({ podSandboxId });
  },
);

/** Connects to each path on its standard input ("@name": abstract) and prints the result. */
const connector = `
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
  char line[512];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\\n")] = 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(line);
    if (length > sizeof address.sun_path - 1) { printf("%s too long\\n", line); continue; }
    memcpy(address.sun_path, line, length);
    if (line[0] == '@') address.sun_path[0] = 0;
    int fd = -1, result = -1;
    const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (int i = 0; i < 3 && result != 0; ++i) {
      fd = socket(AF_UNIX, types[i], 0);
      result = connect(fd, (struct sockaddr*)&address, offsetof(struct sockaddr_un, sun_path) + length);
    }
    printf("%s %s\\n", line, result == 0 ? "CONNECTED" : strerror(errno));
  }
}`;

test("26: a container with the host's network and PIDs can reach none of our sockets; none is abstract (CVE-2020-15257)", async () => {
  const { client, daemon } = node;
  const program = join(scratch, "connector");
  execFileSync("g++", ["-x", "c", "-static", "-include", "stddef.h", "-o", program, "-"], { input: connector });
  const image = await pullHostileImage(node, registry, "connector", [
    { name: "bin/connector", content: await readFile(program), mode: 0o755 },
  ]);
  const namespaceOptions = { network: runtime.v1.NamespaceMode.NODE, pid: runtime.v1.NamespaceMode.NODE };
  const linux = { securityContext: { namespaceOptions } };
  const pod = { ...node.podConfig("sockets"), hostname: "", linux };
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: sleeping, linux };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  const sh = async (script: string) => {
    const { stdout, stderr } = await client.execSync({ containerId, cmd: ["sh", "-c", script] });
    return Buffer.concat([stdout, stderr]).toString();
  };

  const pids = [daemon.pid, ...(await monitorPids(node.directory))];
  const ours = await socketsOf(pids);
  // In the host's network namespace it sees all of them, with path names and inodes.
  const seen = (await sh("cat /proc/net/unix")).split("\n").map((line) => line.trim().split(/\s+/));
  const names = seen.filter(([, , , , , , inode]) => ours.has(inode ?? "")).map(([, , , , , , , name]) => name);
  const named = [...new Set(names.filter((name) => name !== undefined))];
  // The daemon's, under the name that it was bound to before the rename, and the monitor's.
  expect(named).toHaveLength(2);
  expect(named.filter((name) => name.startsWith("@"))).toEqual([]);

  const files = await readdir(node.directory, { recursive: true, withFileTypes: true });
  const sockets = files.filter((file) => file.isSocket()).map((file) => join(file.parentPath, file.name));
  expect(sockets).toEqual(expect.arrayContaining([daemon.socket, expect.stringMatching(/monitor\.sock$/)]));
  const abstract = [...named, ...sockets].map((name) => `@${name}`);
  const throughProc = sockets.flatMap((name) => pids.map((pid) => `/proc/${pid}/root${name}`));
  const paths = [...named, ...sockets, ...abstract, ...throughProc];
  const results = (await sh(`connector <<'END'\n${paths.join("\n")}\nEND`)).trimEnd().split("\n");
  expect(results).toHaveLength(paths.length);
  expect(results.filter((line) => line.endsWith("CONNECTED"))).toEqual([]);
  // The program works: on the host it connects to the socket that the container could not reach.
  expect(execFileSync(program, { input: `${daemon.socket}\n`, encoding: "utf8" })).toBe(`${daemon.socket} CONNECTED\n`);
  await client.removePodSandbox({ podSandboxId });
});

async function socketsOf(pids: readonly number[]): Promise<Set<string>> {
  const inodes = new Set<string>();
  for (const pid of pids) {
    for (const fd of await readdir(`/proc/${pid}/fd`)) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode !== undefined) inodes.add(inode);
    }
  }
  return inodes;
}

test("59: 150,000 streams opened and reset at once neither crash the daemon nor exhaust its memory (CVE-2023-44487)", async () => {
  const { client, daemon } = node;
  const part = 37_500;
  let slowest = 0;
  const flood = async (): Promise<number> => {
    for (let streams = 0; streams < part; ) {
      streams += await floodOnce(daemon.socket, part - streams);
      const began = performance.now();
      await client.version({});
      slowest = Math.max(slowest, performance.now() - began);
    }
    return (await anonymousKilobytes(daemon.pid)) / 1024;
  };
  const sizes = [await flood(), await flood(), await flood(), await flood()];
  const memory = `${sizes.map((size) => size.toFixed(0)).join(", ")} MB after each quarter`;
  process.stdout.write(`      ${memory}; slowest Version call meanwhile ${slowest.toFixed(0)} ms\n`);
  // The garbage collector decides when the heap stops growing; a leak per stream would show in every quarter.
  const growths = sizes.slice(1).map((size, index) => size - (sizes[index] ?? 0));
  expect(Math.min(...growths)).toBeLessThan(15);
  expect(slowest).toBeLessThan(5000);
}, 120_000);

/** One session that opens and resets streams until the server ends it; returns the number of streams. */
async function floodOnce(socket: string, most: number): Promise<number> {
  const session = connectHttp2("http://localhost", { createConnection: () => connect(socket) });
  let ended = false;
  session.on("error", () => undefined);
  session.on("close", () => {
    ended = true;
  });
  session.on("goaway", () => {
    ended = true;
  });
  let count = 0;
  while (!ended && count < most) {
    for (let burst = 0; burst < 100 && !ended; burst += 1) {
      const stream = session.request(grpcHeaders("/runtime.v1.RuntimeService/ListContainers"));
      stream.on("error", () => undefined);
      stream.close(constants.NGHTTP2_CANCEL);
      count += 1;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  session.destroy();
  return count;
}

function grpcHeaders(path: string): Record<string, string> {
  return { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
}

test("59: a :path without a leading slash, or otherwise malformed, reaches no method (CVE-2026-33186)", async () => {
  const method = "runtime.v1.RuntimeService/Version";
  expect(await codeOf(`/${method}`)).toBe(status.OK);
  for (const path of [
    method,
    `//${method}`,
    `/./${method}`,
    `/x/../${method}`,
    `/${method}/`,
    `/${method}?x`,
    `/%72untime.v1.RuntimeService/Version`,
    "*",
    `http://localhost/${method}`,
  ])
    expect(await codeOf(path), path).not.toBe(status.OK);
  await node.client.version({});
});

/** grpc-status of an empty request to this :path; undefined if the server rejects the stream. */
async function codeOf(path: string): Promise<number | undefined> {
  const session = connectHttp2("http://localhost", { createConnection: () => connect(node.daemon.socket) });
  session.on("error", () => undefined);
  try {
    const stream = session.request(grpcHeaders(path));
    return await new Promise((resolve) => {
      const told = (headers: Record<string, unknown>) => {
        if (headers["grpc-status"] !== undefined) resolve(Number(headers["grpc-status"]));
      };
      stream.on("response", told);
      stream.on("trailers", told);
      stream.on("error", () => resolve(undefined));
      stream.on("close", () => resolve(undefined));
      stream.resume();
      // One uncompressed, empty message.
      stream.end(Buffer.alloc(5));
    });
  } finally {
    session.destroy();
  }
}
