// The life of a monitor's process: how it starts, what it inherits, whom it outlives, how its failures are cleared.

import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectMonitor, loadHost, spawnMonitor } from "../index.ts";
import { leftovers, openDescriptors, soon, TestPods } from "../testing/pods.ts";

const host = loadHost();
let pods: TestPods;
beforeAll(async () => {
  pods = await TestPods.prepare(host);
});
afterAll(async () => {
  await pods.remove();
});

describe("spawnMonitor", () => {
  it("starts it from the sealed copy, in a session of its own, with nothing of ours", async () => {
    const before = openDescriptors().length;
    await pods.withPod(async (pod, { monitor, pid }) => {
      expect(readlinkSync(`/proc/${pid}/exe`)).toMatch(/memfd:keelson-monitor \(deleted\)/);
      const [, , , , , session] = readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/\(.*\)/, "x")
        .split(" ");
      expect(Number(session)).toBe(pid);
      expect(
        readFileSync(`/proc/${pid}/environ`, "utf8")
          .split("\0")
          .filter((line) => line !== ""),
      ).toEqual([`PATH=${process.env.PATH}`]);
      expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
      // It closes the pipe of its readiness a moment after it is read.
      const inherited = () =>
        readdirSync(`/proc/${pid}/fd`)
          .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
          .filter((target) => target.includes("pipe:") || target.includes("memfd"));
      await expect.poll(inherited).toEqual([]);
      const hello = await monitor.hello(soon);
      expect(hello).toEqual({
        pid,
        version: JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")).version,
      });
      expect(existsSync(join(pod, "ns/net"))).toBe(true);
    });
    await expect.poll(() => openDescriptors().length).toBeLessThanOrEqual(before);
  });

  it("lets the daemon end and keeps the pod, which the next daemon finds", async () => {
    const pod = pods.makePod();
    const index = fileURLToPath(new URL("../index.ts", import.meta.url));
    const daemon = `
      const { loadHost, nativePaths, spawnMonitor } = await import(${JSON.stringify(index)});
      const executableFd = await loadHost().sealedCopy(nativePaths().monitor);
      const emptyMountsFd = await loadHost().emptyMountNamespace();
      const { pid } = await spawnMonitor({ executableFd, emptyMountsFd, podDirectory: ${JSON.stringify(pod)}, timeoutMs: 10000 });
      console.log(pid);`;
    // It must end by itself: neither the child nor its pipe may hold the event loop.
    const run = spawnSync(process.execPath, ["--input-type=module", "-e", daemon], {
      encoding: "utf8",
      timeout: 20_000,
    });
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const { pid } = await connectMonitor(pod).hello(soon);
    expect(pid).toBe(Number(run.stdout));
    await connectMonitor(pod).shutdown(0, soon);
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
  });

  it("tells the pid of the pod's init when the pod shares a PID namespace", async () => {
    const pod = pods.makePod({ namespaces: { net: "pod", ipc: "pod", uts: "pod", pid: "pod" } });
    const { monitor, initPid, pid } = await pods.spawn(pod);
    expect(initPid).toBeGreaterThan(pid);
    expect((await monitor.hello(soon)).initPid).toBe(initPid);
    await monitor.shutdown(0, soon);
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
  });

  it("tells of the pod's network as soon as plugins may come, and of none that the host has", async () => {
    const own = pods.makePod({ sysctls: { "net.ipv4.ip_unprivileged_port_start": "80" } });
    let seen: string | undefined;
    const onNetwork = () => {
      const inside = "cat /sys/class/net/lo/operstate /proc/sys/net/ipv4/ip_unprivileged_port_start";
      seen = execFileSync("nsenter", [`--net=${own}/ns/net`, "sh", "-c", `ip link show lo; ${inside}`], {
        encoding: "utf8",
      });
    };
    const { monitor } = await spawnMonitor({
      executableFd: pods.executableFd,
      emptyMountsFd: pods.emptyMountsFd,
      podDirectory: own,
      timeoutMs: 10_000,
      onNetwork,
    });
    expect(seen).toMatch(/LOOPBACK,UP.*\n80\n$/s);
    await monitor.shutdown(0, soon);

    const hosts = pods.makePod({ namespaces: { net: "host", ipc: "pod", uts: "host", pid: "container" } });
    seen = undefined;
    const { monitor: second } = await spawnMonitor({
      executableFd: pods.executableFd,
      emptyMountsFd: pods.emptyMountsFd,
      podDirectory: hosts,
      timeoutMs: 10_000,
      onNetwork,
    });
    expect(seen).toBeUndefined();
    await second.shutdown(0, soon);
  });

  it("rejects with the monitor's own reason, and nothing is left", async () => {
    const pod = pods.makePod({ namespaces: { net: "elsewhere" } });
    const failing = pods.spawn(pod);
    await expect(failing).rejects.toMatchObject({ kind: "invalid", code: "InvalidArgument" });
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
    expect(processesNaming(pod)).toEqual([]);
  });

  it("kills and reaps one that does not get ready", async () => {
    const pod = pods.makePod();
    const hanging = await host.sealedCopy("/usr/bin/yes");
    const before = openDescriptors().length;
    const failing = spawnMonitor({
      emptyMountsFd: pods.emptyMountsFd,
      executableFd: hanging,
      podDirectory: pod,
      timeoutMs: 200,
    });
    await expect(failing).rejects.toMatchObject({ name: "monitorStartTimeout", code: "DeadlineExceeded" });
    expect(processesNaming(pod)).toEqual([]);
    // The connection to a pod before may have been let go of meanwhile.
    expect(openDescriptors().length).toBeLessThanOrEqual(before);
    closeSync(hanging);
  });

  it("says so when it ends at once, or cannot be executed at all", async () => {
    const pod = pods.makePod();
    const ending = await host.sealedCopy("/bin/true");
    const text = openSync(join(pod, "sandbox.json"), "r");
    for (const fd of [ending, text, 9_999]) {
      const failing = spawnMonitor({
        emptyMountsFd: pods.emptyMountsFd,
        executableFd: fd,
        podDirectory: pod,
        timeoutMs: 5_000,
      });
      await expect(failing).rejects.toMatchObject({ name: "monitorNotStarted" });
    }
    closeSync(ending);
    closeSync(text);
    expect(processesNaming(pod)).toEqual([]);
  });

  function processesNaming(pod: string): string[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(pod);
        } catch {
          return false;
        }
      });
  }
});
