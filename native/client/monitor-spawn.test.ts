// The life of a monitor process: how it starts, what it inherits, what it outlives, how its failures are cleaned up.

import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectMonitor, loadHost, MonitorForkServer, type SpawnedMonitor, spawnMonitor } from "../index.ts";
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
  it("starts the monitor from the sealed copy, in its own session, inheriting nothing from the daemon", async () => {
    // This also starts the fork server, which keeps running.
    await pods.withPod(async () => undefined);
    const before = openDescriptors().length;
    await pods.withPod(async (pod, { monitor, pid }) => {
      expect(readlinkSync(`/proc/${pid}/exe`)).toMatch(/memfd:keelson-monitor \(deleted\)/);
      expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("keelson-monitor\n");
      expect(commandOf(pid)).toBe(`keelson-monitor\0run\0${pod}\0`);
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
      // It closes the readiness pipe a moment after that has been read.
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

  it("lets the daemon exit and keeps the pod, which the next daemon finds", async () => {
    const pod = pods.makePod();
    // It must exit by itself: neither the child nor its pipe may keep the event loop alive.
    const run = runDaemon(pod);
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    const { pid } = await connectMonitor(pod).hello(soon);
    expect(pid).toBe(Number.parseInt(run.stdout, 10));
    await connectMonitor(pod).shutdown(0, soon);
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
  });

  it("returns the pid of the pod's init if the pod shares a PID namespace", async () => {
    const pod = pods.makePod({ namespaces: { net: "pod", ipc: "pod", uts: "pod", pid: "pod" } });
    const { monitor, initPid, pid } = await pods.spawn(pod);
    expect(initPid).toBeGreaterThan(pid);
    expect((await monitor.hello(soon)).initPid).toBe(initPid);
    await monitor.shutdown(0, soon);
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
  });

  it("calls onNetwork as soon as plugins may run in the pod's network, and never for the host's network", async () => {
    const own = pods.makePod({ sysctls: { "net.ipv4.ip_unprivileged_port_start": "80" } });
    let seen: string | undefined;
    const onNetwork = () => {
      const inside = "cat /sys/class/net/lo/operstate /proc/sys/net/ipv4/ip_unprivileged_port_start";
      seen = execFileSync("nsenter", [`--net=${own}/ns/net`, "sh", "-c", `ip link show lo; ${inside}`], {
        encoding: "utf8",
      });
    };
    const { monitor } = await spawnMonitor({
      forkServer: pods.forkServer,
      podDirectory: own,
      timeoutMs: 10_000,
      onNetwork,
    });
    expect(seen).toMatch(/LOOPBACK,UP.*\n80\n$/s);
    await monitor.shutdown(0, soon);

    const hosts = pods.makePod({ namespaces: { net: "host", ipc: "pod", uts: "host", pid: "container" } });
    seen = undefined;
    const { monitor: second } = await spawnMonitor({
      forkServer: pods.forkServer,
      podDirectory: hosts,
      timeoutMs: 10_000,
      onNetwork,
    });
    expect(seen).toBeUndefined();
    await second.shutdown(0, soon);
  });

  it("leaves the pin of the network, where plugins may be running, if a later step fails", async () => {
    const pod = pods.makePod();
    writeFileSync(join(pod, "files"), "");
    await expect(pods.spawn(pod)).rejects.toMatchObject({ message: expect.stringContaining(join(pod, "files")) });
    expect(leftovers(pod)).toEqual({ mounts: [join(pod, "ns/net")], cgroups: [] });
    await host.unmount(join(pod, "ns/net"));
  });

  it("rejects with the monitor's own error, and nothing is left", async () => {
    const pod = pods.makePod({ namespaces: { net: "elsewhere" } });
    const failing = pods.spawn(pod);
    await expect(failing).rejects.toMatchObject({ kind: "invalid", code: "InvalidArgument" });
    expect(leftovers(pod)).toEqual({ mounts: [], cgroups: [] });
    expect(processesNaming(pod)).toEqual([]);
  });

  it("kills and reaps a monitor that does not become ready", async () => {
    const pod = pods.makePod();
    const hanging = await host.sealedCopy("/usr/bin/yes");
    const before = openDescriptors().length;
    const failing = spawnMonitor({ forkServer: forkServerOf(hanging), podDirectory: pod, timeoutMs: 200 });
    await expect(failing).rejects.toMatchObject({ name: "monitorStartTimeout", code: "DeadlineExceeded" });
    expect(processesNaming(pod)).toEqual([]);
    // The connection to an earlier pod may have been closed meanwhile.
    await expect.poll(() => openDescriptors().length).toBeLessThanOrEqual(before);
    closeSync(hanging);
  });

  it("forks nothing for a pod whose start timed out, and starts another server for the next pod", async () => {
    await pods.withPod(async () => undefined);
    const [server = 0] = forkServers();
    process.kill(server, "SIGSTOP");
    const pod = pods.makePod();
    const failing = spawnMonitor({ forkServer: pods.forkServer, podDirectory: pod, timeoutMs: 100 });
    await expect(failing).rejects.toMatchObject({ name: "monitorStartTimeout" });
    await expect.poll(forkServers).not.toContain(server);
    expect(processesNaming(pod)).toEqual([]);
    await pods.withPod(async (_, { monitor }) => void (await monitor.hello(soon)));
  });

  it("reports that the server accepts no more requests, and not a resource shortage of the node", async () => {
    await pods.withPod(async () => undefined);
    const [server = 0] = forkServers();
    process.kill(server, "SIGSTOP");
    const pod = pods.makePod();
    const asked: number[] = [];
    const refused = await (async () => {
      while (asked.length < 10_000) asked.push((await pods.forkServer.fork(pod)).descriptor);
    })().catch((error: unknown) => error);
    for (const descriptor of asked) closeSync(descriptor);
    process.kill(server, "SIGKILL");
    expect(refused).toMatchObject({ message: expect.stringContaining("accepts no more requests") });
    expect(refused).not.toHaveProperty("code");
    await expect.poll(forkServers).toEqual([]);
  });

  it("keeps its server after a request whose descriptor did not arrive", async () => {
    await pods.withPod(async () => undefined);
    const [server = 0] = forkServers();
    const limit = (soft: string) => execFileSync("prlimit", [`--pid=${server}`, `--nofile=${soft}:`]);
    limit("3");
    await expect(pods.spawn(pods.makePod())).rejects.toMatchObject({ name: "monitorNotStarted" });
    limit("1024");
    await pods.withPod(async (_, { monitor }) => void (await monitor.hello(soon)));
    expect(forkServers()).toEqual([server]);
  });

  it("starts another server after the previous one has been killed", async () => {
    for (let round = 0; round < 5; round += 1) {
      await pods.withPod(async () => undefined);
      for (const server of forkServers()) process.kill(server, "SIGKILL");
      // A request that it gets just before it dies is lost.
      await expect.poll(forkServers).toEqual([]);
      await pods.withPod(async (_, { monitor }) => void (await monitor.hello(soon)));
    }
    await expect.poll(() => forkServers().length).toBe(1);
  });

  it("starts a single server for concurrent callers that find the server dead", async () => {
    await pods.withPod(async () => undefined);
    for (const server of forkServers()) {
      process.kill(server, "SIGKILL");
      // Without an event loop turn, in which this process would notice its exit.
      while (!readFileSync(`/proc/${server}/stat`, "utf8").includes(") Z "));
    }
    const spawned = await Promise.all(Array.from({ length: 5 }, () => pods.spawn(pods.makePod())));
    expect(forkServers()).toHaveLength(1);
    await Promise.all(spawned.map(({ monitor }) => monitor.shutdown(0, soon)));
  });

  it("starts another server for a request in the event loop turn in which the previous one exited", async () => {
    await pods.withPod(async () => undefined);
    const [server = 0] = forkServers();
    const spawned = new Promise<SpawnedMonitor>((resolve, reject) => {
      // Runs after the listener that reaps.
      process.on("SIGCHLD", function look() {
        if (existsSync(`/proc/${server}`)) return;
        process.off("SIGCHLD", look);
        pods.spawn(pods.makePod()).then(resolve, reject);
      });
    });
    process.kill(server, "SIGKILL");
    await (await spawned).monitor.shutdown(0, soon);
  });

  it("keeps its server when the daemon is out of descriptors for another pod", async () => {
    const [pod, next] = [pods.makePod(), pods.makePod()];
    const run = runDaemon(
      pod,
      `execFileSync("prlimit", ["--nofile=40", "--pid", String(process.pid)]);
      const taken = [];
      try { for (;;) taken.push(openSync("/dev/null", "r")); } catch {}
      const reason = await forkServer.fork(${JSON.stringify(next)}).catch(({ code }) => code);
      for (const fd of taken) closeSync(fd);
      const { pid: second } = await spawnMonitor({ forkServer, podDirectory: ${JSON.stringify(next)}, timeoutMs: 10000 });
      console.log(reason, ...children().filter((child) => child !== pid && child !== second));`,
    );
    for (const directory of [pod, next]) await connectMonitor(directory).shutdown(0, soon);
    const [, server, ...afterwards] = run.stdout.trim().split(/\s/);
    expect(afterwards).toEqual(["EMFILE", server]);
  });

  it("forks many monitors concurrently, each with its own pod's directory", async () => {
    const directories = Array.from({ length: 20 }, () => pods.makePod());
    const spawned = await Promise.all(directories.map((pod) => pods.spawn(pod)));
    for (const [index, { pid }] of spawned.entries()) expect(commandOf(pid)).toContain(directories[index]);
    await Promise.all(spawned.map(({ monitor }) => monitor.shutdown(0, soon)));
    // They are children of this process, which reaps them.
    for (const { pid } of spawned) await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
  });

  it("rejects a directory that does not fit into the command line", async () => {
    const pod = join(pods.base, `${"0".repeat(64)}1`);
    const failing = spawnMonitor({ forkServer: pods.forkServer, podDirectory: pod, timeoutMs: 5_000 });
    await expect(failing).rejects.toMatchObject({ kind: "invalid", message: expect.stringContaining(pod) });
  });

  it("stops its server when the daemon exits, even if it is killed", async () => {
    const pod = pods.makePod();
    const run = runDaemon(pod, "process.kill(process.pid, 'SIGKILL')");
    expect(run.signal).toBe("SIGKILL");
    const [pid = 0, server = 0] = run.stdout.trim().split(" ").map(Number);
    expect(server).toBeGreaterThan(0);
    await expect.poll(() => existsSync(`/proc/${server}`)).toBe(false);
    expect((await connectMonitor(pod).hello(soon)).pid).toBe(pid);
    await connectMonitor(pod).shutdown(0, soon);
  });

  it("also works with the sanitizer build", async () => {
    const sanitized = openSync(new URL("../build/sanitize/keelson-monitor", import.meta.url).pathname, "r");
    const forkServer = forkServerOf(sanitized);
    const spawned = await Promise.all(
      Array.from({ length: 3 }, () => spawnMonitor({ forkServer, podDirectory: pods.makePod(), timeoutMs: 20_000 })),
    );
    for (const { monitor, pid } of spawned) {
      expect((await monitor.hello(soon)).pid).toBe(pid);
      await monitor.shutdown(0, soon);
    }
    await forkServer.end();
    closeSync(sanitized);
  });

  it("rejects if the server exits at once or cannot be executed", async () => {
    const pod = pods.makePod();
    const ending = await host.sealedCopy("/bin/true");
    const text = openSync(join(pod, "sandbox.json"), "r");
    for (const fd of [ending, text, 9_999]) {
      const failing = spawnMonitor({ forkServer: forkServerOf(fd), podDirectory: pod, timeoutMs: 5_000 });
      await expect(failing).rejects.toMatchObject({ name: "monitorNotStarted" });
    }
    closeSync(ending);
    closeSync(text);
    expect(processesNaming(pod)).toEqual([]);
  });

  /** Starts the pod's monitor, prints its pid and its fork server's, and exits by itself, or as `end` says. */
  function runDaemon(pod: string, end = "") {
    const index = fileURLToPath(new URL("../index.ts", import.meta.url));
    const daemon = `
      const { execFileSync } = await import("node:child_process");
      const { closeSync, openSync, readdirSync, readFileSync } = await import("node:fs");
      const { loadHost, MonitorForkServer, nativePaths, spawnMonitor } = await import(${JSON.stringify(index)});
      const executableFd = await loadHost().sealedCopy(nativePaths().monitor);
      const emptyMountsFd = await loadHost().emptyMountNamespace();
      const forkServer = new MonitorForkServer({ executableFd, emptyMountsFd, podsDirectory: ${JSON.stringify(pods.base)} });
      const { pid } = await spawnMonitor({ forkServer, podDirectory: ${JSON.stringify(pod)}, timeoutMs: 10000 });
      const parentOf = (name) => {
        try {
          return Number(readFileSync("/proc/" + name + "/stat", "utf8").replace(/.*\\) . /s, "").split(" ")[0]);
        } catch {}
      };
      const children = () => readdirSync("/proc").filter((name) => parentOf(name) === process.pid).map(Number);
      console.log(pid, ...children().filter((child) => child !== pid));
      ${end}`;
    return spawnSync(process.execPath, ["--input-type=module", "-e", daemon], { encoding: "utf8", timeout: 20_000 });
  }

  /** The fork servers of this process. */
  function forkServers(): number[] {
    return processes().filter((pid) => commandOf(pid).startsWith(`keelson-monitor\0fork\0${pods.base}/`));
  }

  function forkServerOf(executableFd: number): MonitorForkServer {
    return new MonitorForkServer({ executableFd, emptyMountsFd: pods.emptyMountsFd, podsDirectory: pods.base });
  }

  function processesNaming(pod: string): number[] {
    return processes().filter((pid) => commandOf(pid).includes(pod));
  }

  function processes(): number[] {
    return readdirSync("/proc").map(Number).filter(Number.isInteger);
  }

  /** Empty if it has exited. */
  function commandOf(pid: number): string {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  }
});
