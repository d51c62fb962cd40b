// A pod on the machine, with checks that it is unchanged.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connectCri } from "../../fixtures/client.ts";
import { until } from "../../fixtures/steps.ts";
import type { Machine } from "./machine.ts";

export const image = "localhost/walk/busybox:1";
const inside = "/run/keelson/keelson.sock";
const logs = "/var/log/walk";

export interface Pod {
  readonly id: string;
  /** Its original process still runs and writes its log, and the daemon reports it as running. */
  isUntouched(): Promise<void>;
  /** The same check without a daemon. */
  runsOn(): Promise<void>;
}

/** The name of `directory` marks the container's process. */
export async function startPod(machine: Machine, directory: string): Promise<Pod> {
  const client = connectCri(machine.path(inside));
  const config = {
    metadata: { name: "walk", namespace: "walk", uid: "walk", attempt: 0 },
    logDirectory: logs,
    linux: {},
  };
  await machine.must(`mkdir --parents ${logs}`);
  const { podSandboxId } = await client.runPodSandbox({ config });
  const mark = basename(directory);
  const script = `: ${mark}; while true; do echo on; sleep 0.1; done`;
  const container = {
    metadata: { name: "main", attempt: 0 },
    image: { image },
    command: ["sh", "-c", script],
    logPath: "main.log",
    linux: {},
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: config, config: container });
  await client.startContainer({ containerId });
  client.close();
  const began = await processOf(mark);
  const limits = await readFile(`/proc/${began.split(" ")[0]}/limits`, "utf8");
  assert.match(limits, /^Max core file size +unlimited/m, "a container's processes dump no core");

  const runsOn = async () => {
    assert.equal(await processOf(mark), began, "the process has changed");
    const log = machine.path(`${logs}/main.log`);
    const length = (await readFile(log)).length;
    await sleep(300);
    assert((await readFile(log)).length > length, "its log does not grow");
  };
  return {
    id: podSandboxId,
    runsOn,
    isUntouched: async () => {
      await runsOn();
      const again = connectCri(machine.path(inside));
      const { status } = await again.containerStatus({ containerId });
      again.close();
      assert.equal(String(status?.state), "1", `the daemon reports state ${status?.state}`);
    },
  };
}

/** Opens a connection to the socket and sends nothing. */
export async function connectTo(machine: Machine): Promise<Socket> {
  const socket = connect(machine.path(inside)).on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

/** Over a new connection. */
export async function callOnce(machine: Machine): Promise<void> {
  const client = connectCri(machine.path(inside));
  try {
    await client.version({}, 10_000);
  } finally {
    client.close();
  }
}

export async function removePod(machine: Machine, { id }: Pod): Promise<void> {
  const client = connectCri(machine.path(inside));
  await client.stopPodSandbox({ podSandboxId: id });
  await client.removePodSandbox({ podSandboxId: id });
  client.close();
}

/** PID and start time of the shell that has `mark` in its command line. */
async function processOf(mark: string): Promise<string> {
  return await until(`a process marked ${mark}`, 5_000, async () => {
    for (const pid of await readdir("/proc")) {
      if (!/^\d+$/.test(pid)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (!command.startsWith(`sh\0-c\0: ${mark};`)) continue;
      // After the closing parenthesis of the name, state is the first field and start time the 20th.
      const stat = await readFile(`/proc/${pid}/stat`, "utf8");
      return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
    }
    return undefined;
  });
}
