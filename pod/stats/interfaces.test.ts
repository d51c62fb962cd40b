// Interfaces of pods: real network namespaces, read through a process in them or by their path.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { loadHost } from "../../native/index.ts";
import { networksOf, parseInterfaces } from "./interfaces.ts";

test("interfaces are read from /proc/PID/net/dev", () => {
  const text =
    "Inter-|   Receive                                                |  Transmit\n" +
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
    "    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n" +
    "  eth0:12345678       2    3    4    0     0          0         0      900       5    6    7    0     0       0          0\n";
  expect(parseInterfaces(text)).toEqual([
    {
      ...{ name: "lo", rxBytes: 100n, rxPackets: 1n, rxErrors: 0n, rxDropped: 0n },
      ...{ txBytes: 100n, txPackets: 1n, txErrors: 0n, txDropped: 0n },
    },
    {
      ...{ name: "eth0", rxBytes: 12_345_678n, rxPackets: 2n, rxErrors: 3n, rxDropped: 4n },
      ...{ txBytes: 900n, txPackets: 5n, txErrors: 6n, txDropped: 7n },
    },
  ]);
  expect(parseInterfaces("")).toEqual([]);
});

describe("a pod's network", () => {
  const env = { host: loadHost(), clock: () => 5n };
  const processes: ChildProcess[] = [];
  afterEach(() => {
    for (const process of processes.splice(0)) process.kill("SIGKILL");
  });

  /** The pid of a process in a new network namespace with these interfaces besides lo. */
  async function namespaceWith(...names: readonly string[]): Promise<number> {
    const script = 'for name; do ip link add "$name" type bridge || exit 1; done; echo done; exec sleep 60';
    const process = spawn("unshare", ["--net", "sh", "-c", script, "sh", ...names], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    processes.push(process);
    await once(process.stdout, "readable");
    if (process.stdout.read() === null) throw new Error("the interfaces cannot be created");
    return process.pid ?? 0;
  }

  const running = (pid: number) => ({ phase: { state: "running", startedAt: 1n, pid } }) as const;
  const pod = { ready: true, ownNetwork: true, netnsPath: "/nonexistent", containers: new Map() };

  async function names(...sandboxes: Parameters<typeof networksOf>[1]) {
    const networks = await networksOf(env, sandboxes);
    return networks.map(
      (network) =>
        network && [network.timestamp, network.defaultInterface.name, network.interfaces.map(({ name }) => name)],
    );
  }

  test("has eth0 as its default interface even if another one is older, and without eth0 the first one after lo", async () => {
    const [two, other, alone] = await Promise.all([
      namespaceWith("tunnel", "eth0"),
      namespaceWith("net1"),
      namespaceWith(),
    ]);
    const read = [two, other, alone].map((pid) => ({ ...pod, containers: new Map([["c", running(pid)]]) }));
    expect(await names(...read)).toEqual([[5n, "eth0", ["lo", "tunnel"]], [5n, "net1", ["lo"]], undefined]);
  });

  test("is read from its namespace while none of its containers is running, if it is ready", async () => {
    const pid = await namespaceWith("eth0");
    const netnsPath = `/proc/${pid}/ns/net`;
    const exited = {
      phase: { state: "exited", startedAt: 1n, finishedAt: 2n, exitCode: 0, reason: "", message: "" },
    } as const;
    const containers = new Map([["c", exited]]);
    expect(
      await names({ ...pod, netnsPath, containers }, { ...pod, netnsPath, ready: false }, pod, { ...pod, netnsPath }),
    ).toEqual([[5n, "eth0", ["lo"]], undefined, undefined, [5n, "eth0", ["lo"]]]);
  });

  test("on the host's network is not the node's", async () => {
    const containers = new Map([["c", running(process.pid)]]);
    const host = { ...pod, ownNetwork: false, netnsPath: "/proc/self/ns/net", containers };
    expect(await names(host)).toEqual([undefined]);
  });
});
