// Checkpoints that are interrupted: by their deadline, a stop, the daemon's exit, or a hanging file system. The
// container keeps running, and nothing is left behind.

import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { expect, type TestContext, test } from "vitest";
import {
  type Counting,
  counter,
  counting,
  fakeCriu,
  leavesNothing,
  nodeOf,
  runsOn,
  unfinished,
} from "../fixtures/checkpoint.ts";
import { mountSilent } from "../fixtures/silent-file-system.ts";
import { until } from "../fixtures/steps.ts";

/**
 * A directory with a `criu` that writes nothing, and a `tar` that hangs while it writes the last archive, with
 * config.dump.
 */
async function endlessTar(context: TestContext, seconds: number): Promise<string> {
  const directory = await fakeCriu(context, "exit 0");
  const tar = `#!/bin/sh\ncase "$*" in\n*config.dump*) echo half-made; exec sleep ${seconds} ;;\n*) exec /usr/bin/tar "$@" ;;\nesac\n`;
  writeFileSync(join(directory, "tar"), tar, { mode: 0o755 });
  return directory;
}

test.concurrent("locations on a hanging file system fail without delaying anything else", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "exit 0") });
  const counted = await counting(node);
  const silent = join(node.directory, "silent");
  await mkdir(silent);
  await using _silent = await mountSilent(silent);
  // More than the threads in Node.js's pool.
  const refused = Array.from({ length: 6 }, (_, index) =>
    expect(
      node.client.checkpointContainer({ containerId: counted.containerId, location: join(silent, `${index}.tar`) }),
    ).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining("its file system has not answered for 10 s"),
    }),
  );
  await node.client.checkpointContainer({ containerId: counted.containerId, location: counted.location }, 8_000);
  await Promise.all(refused);
  leavesNothing(counted);
});

test.concurrent("a stop and the daemon's exit do not wait for a location that hangs", async (context) => {
  const node = await nodeOf(context, { programs: await endlessTar(context, 1004) });
  const counted = await counting(node);
  const { containerId } = counted;
  const archives = join(node.directory, "archives");
  await mkdir(archives);
  const location = join(archives, "dump.tar");
  const lost = node.client.checkpointContainer({ containerId, location }).catch(() => "lost");
  await until("the archive is being written", 5000, async () => (sleepers(1004).length > 0 ? true : undefined));
  {
    await using _silent = await mountSilent(archives);
    const began = performance.now();
    await node.client.stopContainer({ containerId, timeout: Long.ZERO });
    await node.client.removeContainer({ containerId });
    await node.daemon.stop();
    expect(performance.now() - began).toBeLessThan(8_000);
  }
  expect(await lost).toBe("lost");
  expect(readdirSync(archives)).toHaveLength(1);
  await node.daemon.start();
  await until("no checkpoint is in progress", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
  expect(readdirSync(archives)).toEqual([]);
});

test.concurrent("a daemon that is killed while it writes the archive leaves nothing behind", async (context) => {
  const node = await nodeOf(context, { programs: await endlessTar(context, 1003) });
  const counted = await counting(node);
  const archives = join(node.directory, "archives");
  await mkdir(archives);
  const location = join(archives, "dump.tar");
  const lost = node.client.checkpointContainer({ containerId: counted.containerId, location }).catch(() => "lost");
  await until("the archive is being written", 5000, async () => (sleepers(1003).length > 0 ? true : undefined));
  expect(readdirSync(archives)).toHaveLength(1);
  await node.daemon.kill();
  expect(await lost).toBe("lost");
  for (const pid of sleepers(1003)) process.kill(pid, "SIGKILL");
  await node.daemon.start();
  await until("no checkpoint is in progress", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
  expect(readdirSync(archives)).toEqual([]);
  await runsOn(counted);
});

test.concurrent("a hanging criu is killed at the deadline, and a stop does not wait for it", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "sleep 1000") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  await expect(node.client.checkpointContainer({ containerId, location, timeout: Long.ONE })).rejects.toMatchObject({
    code: status.DEADLINE_EXCEEDED,
    details: expect.stringContaining("within 1 s"),
  });
  await runsOn(counted);
  leavesNothing(counted);

  const hanging = node.client.checkpointContainer({ containerId, location }).catch((error: unknown) => error);
  await until("the container is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await expect(node.client.checkpointContainer({ containerId, location })).rejects.toMatchObject({
    code: status.ABORTED,
    details: expect.stringContaining("already"),
  });
  const began = performance.now();
  await node.client.stopContainer({ containerId, timeout: Long.ZERO });
  expect(performance.now() - began).toBeLessThan(2000);
  expect(await hanging).toMatchObject({ code: status.ABORTED, details: expect.stringContaining("stopped") });
  leavesNothing(counted);
});

test.concurrent("no checkpoint starts in a container that is being stopped: it keeps its grace period", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "exec sleep 1005") });
  const script = `trap 'echo stopping; sleep 1; exit 3' TERM; ${counter}`;
  const { containerId, location, log } = await counting(node, { script });
  const stopping = node.client.stopContainer({ containerId, timeout: Long.fromNumber(5) });
  await until("it gets SIGTERM", 4000, async () => (readFileSync(log, "utf8").includes("stopping") ? true : undefined));
  const checkpoint = node.client.checkpointContainer({ containerId, location }).catch((error: unknown) => error);
  await stopping;
  expect((await node.client.containerStatus({ containerId })).status?.exitCode).toBe(3);
  expect(await checkpoint).toMatchObject({
    code: status.ABORTED,
    details: expect.stringContaining("is being stopped"),
  });
});

test.concurrent("of two concurrent calls one is refused, and the daemon aborts the other when it is stopped", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "sleep 1001") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const codes: number[] = [];
  const calls = ["a", "b"].map((name) =>
    node.client
      .checkpointContainer({ containerId, location: `${location}.${name}` })
      .catch(({ code }) => codes.push(code)),
  );
  await until("one is refused", 5000, async () => (codes.length > 0 ? true : undefined));
  expect(codes).toEqual([status.ABORTED]);
  await until("the container is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await node.daemon.stop();
  await Promise.all(calls);
  expect(isFrozen(counted)).toBe(false);
  expect(sleepers(1001)).toEqual([]);
  await runsOn(counted);
  await node.daemon.start();
});

test.concurrent("a daemon that is killed during a checkpoint thaws the container when it restarts", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "sleep 1002") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const lost = node.client.checkpointContainer({ containerId, location }).catch(() => "lost");
  await until("the container is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await node.daemon.kill();
  expect(await lost).toBe("lost");
  expect(isFrozen(counted)).toBe(true);
  for (const pid of sleepers(1002)) process.kill(pid, "SIGKILL");
  await node.daemon.start();
  await runsOn(counted);
  expect(unfinished(node)).toEqual([]);
});

/** The `sleep` processes of the fake criu, which outlives its daemon. */
function sleepers(seconds: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sleep\0${seconds}\0` && isOfHost(pid);
      } catch {
        return false;
      }
    });
}

function isOfHost(pid: number): boolean {
  return readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync("/proc/self/ns/mnt");
}

function isFrozen({ pid }: Counting): boolean {
  const cgroups = readFileSync(`/proc/${pid}/cgroup`, "utf8");
  const v1 = /freezer:(.*)/.exec(cgroups)?.[1];
  if (v1 !== undefined) return readFileSync(`/sys/fs/cgroup/freezer${v1}/freezer.state`, "utf8").startsWith("FROZEN");
  const v2 = /^0::(.*)/m.exec(cgroups)?.[1];
  return readFileSync(`/sys/fs/cgroup${v2}/cgroup.events`, "utf8").includes("frozen 1");
}
