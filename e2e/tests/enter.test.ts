// Issue 8: how processes come into containers, through CRI requests. A1: nothing of ours that a container can see has a capability, a root or a descriptor that its spec does not
// give. A container with CAP_SYS_PTRACE looks at every process that enters it, and at every sibling that starts.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { type PodConfig, startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const { POD, CONTAINER, TARGET } = runtime.v1.NamespaceMode;
const rounds = 500;
/** How many siblings start at once, each in its own turn of the pod's queue. */
const sideBySide = 4;

interface Sighting {
  readonly seen: number;
  readonly early: number;
  readonly seized: number;
  readonly findings: readonly string[];
}

let node: TestNode;
let program: string;
const secret = `SECRET_${randomBytes(12).toString("hex")}`;
beforeAll(async () => {
  node = await startNode();
  program = join(node.directory, "entry-watcher");
  const source = join(import.meta.dirname, "entry-watcher.cc");
  await promisify(execFile)("g++", ["-std=c++23", "-O2", "-static", "-o", program, source]);
  await writeFile(join(node.directory, "host-only"), "");
}, 60_000);
afterAll(() => node.close());

interface Scene {
  readonly pod: PodConfig;
  readonly podSandboxId: string;
  /** Of the containers that come after it. */
  readonly securityContext: object;
  readonly watcherId: string;
  readonly log: string;
}

/** A pod with a neighbour whose environment is nobody else's, and the attacker. */
async function scene(name: string, pid: number, security: object): Promise<Scene> {
  const { client, image } = node;
  const securityContext = {
    namespaceOptions: { pid },
    capabilities: { addCapabilities: ["SYS_PTRACE"] },
    seccomp: { profileType: runtime.v1.SecurityProfile.ProfileType.RuntimeDefault },
    ...security,
  };
  const pod: PodConfig = { ...node.podConfig(name), linux: { securityContext: { namespaceOptions: { pid } } } };
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const start = async (container: string, command: string[], more: object = {}): Promise<string> => {
    const { containerId } = await client.createContainer({
      podSandboxId,
      sandboxConfig: pod,
      config: {
        metadata: { name: container, attempt: 0 },
        image: { image },
        command,
        logPath: `${name}-${container}.log`,
        linux: { securityContext },
        ...more,
      },
    });
    await client.startContainer({ containerId });
    return containerId;
  };
  const neighbour = await start("neighbour", ["sleep", "1000000"], {
    envs: [{ key: "HIDDEN", value: Buffer.from(secret) }],
  });
  const { info } = await client.containerStatus({ containerId: neighbour, verbose: true });
  const { process, linux } = JSON.parse(info?.info ?? "{}").runtimeSpec;
  const sets = ["inheritable", "permitted", "effective", "bounding", "ambient"].map((set) =>
    bits(process.capabilities[set] ?? []).toString(16),
  );
  const expected = [...sets, process.noNewPrivileges ? "1" : "0", linux.seccomp === undefined ? "0" : "2"];
  const watcherId = await start(
    "watcher",
    ["/entry-watcher", "1000", ...expected, secret, join(node.directory, "host-only")],
    { mounts: [{ hostPath: program, containerPath: "/entry-watcher", readonly: true }] },
  );
  return { pod, podSandboxId, securityContext, watcherId, log: join(node.logs, `${name}-watcher.log`) };
}

/** Ends the attacker and gives what it saw; the pod goes. */
async function sighting({ podSandboxId, watcherId, log }: Scene): Promise<Sighting> {
  await node.client.stopContainer({ containerId: watcherId, timeout: Long.fromNumber(10) });
  const line = await until("the watcher's report", 10_000, async () =>
    (await readFile(log, "utf8")).split("\n").find((text) => text.includes('"findings"')),
  );
  await node.client.removePodSandbox({ podSandboxId });
  return JSON.parse(line.slice(line.indexOf("{")));
}

const capabilityNames =
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP";

function bits(names: readonly string[]): bigint {
  const order = capabilityNames.split(" ").map((name) => `CAP_${name}`);
  return names.reduce((set, name) => {
    const number = order.indexOf(name);
    if (number < 0) throw new Error(`which capability is ${name}?`);
    return set | (1n << BigInt(number));
  }, 0n);
}

/** Caught at nothing, and really looked at: before the execve too. */
function expectNothingCaught(saw: Sighting): void {
  expect(saw.findings).toEqual([]);
  expect(saw.early).toBeGreaterThan(rounds / 50);
  expect(saw.seized).toBeGreaterThan(0);
}

describe("A1: a container with CAP_SYS_PTRACE that looks at all who come", () => {
  test.each([
    { words: "with no_new_privs", noNewPrivs: true },
    { words: "without no_new_privs", noNewPrivs: false },
  ])(
    `catches nothing in ${rounds} execs $words`,
    async ({ noNewPrivs }) => {
      const view = await scene(`exec-${noNewPrivs}`, CONTAINER, { noNewPrivs });
      for (let round = 0; round < rounds; round += 1) {
        const { exitCode } = await node.client.execSync({ containerId: view.watcherId, cmd: ["true"] });
        expect(exitCode).toBe(0);
      }
      const saw = await sighting(view);
      expectNothingCaught(saw);
    },
    120_000,
  );

  test.each([
    { words: "in the pod's PID namespace", pid: POD, siblingPid: POD },
    { words: "that target its PID namespace", pid: CONTAINER, siblingPid: TARGET },
  ])(
    `catches nothing in ${rounds} starts of siblings $words`,
    async ({ pid, siblingPid }) => {
      const view = await scene(`siblings-${siblingPid}`, pid, {});
      const securityContext = {
        ...view.securityContext,
        namespaceOptions: { pid: siblingPid, targetId: view.watcherId },
      };
      const startAndRemove = async (number: number): Promise<void> => {
        const config = {
          metadata: { name: `sibling-${number}`, attempt: 0 },
          image: { image: node.image },
          command: ["true"],
          linux: { securityContext },
        };
        const { client } = node;
        const request = { podSandboxId: view.podSandboxId, sandboxConfig: view.pod, config };
        const { containerId } = await client.createContainer(request);
        await client.startContainer({ containerId });
        await client.removeContainer({ containerId });
      };
      for (let round = 0; round < rounds; round += sideBySide) {
        await Promise.all(Array.from({ length: sideBySide }, (_, at) => startAndRemove(round + at)));
      }
      const saw = await sighting(view);
      expectNothingCaught(saw);
    },
    300_000,
  );
});

/** A pod with containers of shell lines, each with its own PID namespace; their ids. */
async function podWith(
  name: string,
  ...scripts: string[]
): Promise<{ podSandboxId: string; ids: string[]; pod: PodConfig }> {
  const linux = { securityContext: { namespaceOptions: { pid: CONTAINER } } };
  const pod = { ...node.podConfig(name), linux };
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const ids: string[] = [];
  for (const [at, script] of scripts.entries()) {
    ids.push(await node.runContainer(pod, podSandboxId, `${name}-${at}`, script));
  }
  return { podSandboxId, ids, pod };
}

async function cgroupOf(containerId: string): Promise<string> {
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return JSON.parse(info?.info ?? "{}").cgroup;
}

/** Whoever joins the container's cgroup is held, as in a checkpoint. */
async function freeze(cgroup: string, frozen: boolean): Promise<void> {
  const freezer = "/sys/fs/cgroup/freezer";
  const v1 = await access(freezer).then(
    () => true,
    () => false,
  );
  const directory = join(v1 ? freezer : "/sys/fs/cgroup", cgroup);
  await mkdir(directory, { recursive: true });
  if (v1) await writeFile(join(directory, "freezer.state"), frozen ? "FROZEN" : "THAWED");
  else await writeFile(join(directory, "cgroup.freeze"), frozen ? "1" : "0");
}

async function took(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function p95(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)] ?? 0;
}

describe("A2: a container that holds every process on its way in", () => {
  const measured = 40;

  /** Execs in one container of the pod, and stops of others. */
  async function pace(pod: PodConfig, podSandboxId: string, quiet: string, mark: string) {
    const execs: number[] = [];
    const stops: number[] = [];
    for (let round = 0; round < measured; round += 1) {
      execs.push(await took(() => node.client.execSync({ containerId: quiet, cmd: ["true"] })));
      const name = `${mark}-${round}`;
      const containerId = await node.runContainer(pod, podSandboxId, name, "exec sleep 1000");
      stops.push(await took(() => node.client.stopContainer({ containerId, timeout: Long.ZERO })));
      await node.client.removeContainer({ containerId });
    }
    return { exec: p95(execs), stop: p95(stops) };
  }

  async function expectPaceKept(name: string, hold: (holder: string, held: boolean) => Promise<void>) {
    const { podSandboxId, ids, pod } = await podWith(name, "sleep 100000");
    const [quiet = ""] = ids;
    const holder = await startHolder(pod, podSandboxId);
    await pace(pod, podSandboxId, quiet, "warm");
    const before = await pace(pod, podSandboxId, quiet, "before");
    await hold(holder, true);
    const held = Array.from({ length: 16 }, () =>
      node.client.execSync({ containerId: holder, cmd: ["sleep", "1000"] }).catch((error: unknown) => error),
    );
    await delay(200);
    const during = await pace(pod, podSandboxId, quiet, "during");
    await hold(holder, false);
    await node.client.stopContainer({ containerId: holder, timeout: Long.ZERO });
    for (const outcome of await Promise.all(held)) {
      if (!(outcome instanceof Error)) expect(outcome).toMatchObject({ exitCode: 137 });
    }
    await node.client.removePodSandbox({ podSandboxId });
    expect(during.exec).toBeLessThan(2 * before.exec);
    expect(during.stop).toBeLessThan(2 * before.stop);
  }

  /** Its main process sends SIGSTOP to whoever comes: with nobody coming, it costs as much. */
  async function startHolder(pod: PodConfig, podSandboxId: string): Promise<string> {
    const config = {
      metadata: { name: "holder", attempt: 0 },
      image: { image: node.image },
      command: ["/entry-watcher", "stop"],
      mounts: [{ hostPath: program, containerPath: "/entry-watcher", readonly: true }],
      linux: {},
    };
    const { containerId } = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await node.client.startContainer({ containerId });
    return containerId;
  }

  test("with SIGSTOP leaves execs and stops in its pod at most twice as slow at p95", async () => {
    await expectPaceKept("stopping", async () => undefined);
  }, 120_000);

  test("in a frozen cgroup leaves execs and stops in its pod at most twice as slow at p95", async () => {
    await expectPaceKept("freezing", async (holder, held) => await freeze(await cgroupOf(holder), held));
  }, 120_000);
});

describe("C17: StartContainer", () => {
  interface Hanging {
    readonly podSandboxId: string;
    readonly containerId: string;
    readonly cgroup: string;
    readonly started: Promise<unknown>;
    /** What its command would make. */
    readonly trace: string;
  }

  async function hangingStart(name: string): Promise<Hanging> {
    const pod = node.podConfig(name);
    const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
    const traces = join(node.directory, `${name}-traces`);
    await mkdir(traces);
    const config = {
      metadata: { name, attempt: 0 },
      image: { image: node.image },
      command: ["sh", "-c", "touch /traces/ran; sleep 1000"],
      mounts: [{ hostPath: traces, containerPath: "/traces" }],
      linux: {},
    };
    const { containerId } = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    const cgroup = await cgroupOf(containerId);
    await freeze(cgroup, true);
    const started = node.client.startContainer({ containerId }).catch((error: unknown) => error);
    await delay(500);
    return { podSandboxId, containerId, cgroup, started, trace: join(traces, "ran") };
  }

  async function neverRan({ trace, cgroup }: Hanging): Promise<void> {
    await freeze(cgroup, false).catch(() => "it is gone");
    await delay(500);
    await expect(access(trace)).rejects.toMatchObject({ code: "ENOENT" });
  }

  test("that hangs ends at its deadline, and the container never runs", async () => {
    const start = await hangingStart("late");
    expect(await start.started).toMatchObject({ code: status.DEADLINE_EXCEEDED });
    const { status: told } = await node.client.containerStatus({ containerId: start.containerId });
    expect(told).toMatchObject({ state: runtime.v1.ContainerState.CONTAINER_EXITED, exitCode: 128 });
    await neverRan(start);
    await node.client.removePodSandbox({ podSandboxId: start.podSandboxId });
  }, 30_000);

  test("is waited for by StopContainer, which breaks it off when its grace is over", async () => {
    const start = await hangingStart("stopped");
    const { containerId } = start;
    const stopping = await took(() => node.client.stopContainer({ containerId, timeout: Long.fromNumber(1) }));
    expect(stopping).toBeGreaterThan(900);
    expect(stopping).toBeLessThan(6_000);
    expect(await start.started).toBeInstanceOf(Error);
    const { status: told } = await node.client.containerStatus({ containerId });
    expect(told).toMatchObject({ state: runtime.v1.ContainerState.CONTAINER_EXITED, exitCode: 128 });
    await neverRan(start);
    await node.client.removePodSandbox({ podSandboxId: start.podSandboxId });
  }, 30_000);

  test("that the daemon dies in does not run on behind the next one's back", async () => {
    const start = await hangingStart("orphaned");
    await node.daemon.kill();
    await node.daemon.start();
    await neverRan(start);
    const { status: told } = await node.client.containerStatus({ containerId: start.containerId });
    expect(told?.state).not.toBe(runtime.v1.ContainerState.CONTAINER_RUNNING);
    await start.started;
    await node.client.removePodSandbox({ podSandboxId: start.podSandboxId });
  }, 30_000);
});

test("B13: with 128 execs open in a pod, StopContainer, RemoveContainer and StopPodSandbox go through", async () => {
  const { podSandboxId, ids } = await podWith("full", "sleep 100000", "sleep 100000", "sleep 100000");
  const [holder = "", stopped = "", removed = ""] = ids;
  const execs = Array.from({ length: 128 }, () =>
    node.client.execSync({ containerId: holder, cmd: ["sleep", "100000"], timeout: Long.ZERO }).catch(() => undefined),
  );
  const refusal = await until("no more are taken", 10_000, async () => {
    const call = node.client.execSync({ containerId: holder, cmd: ["true"] });
    return await call.then(
      () => undefined,
      (error: unknown) => error,
    );
  });
  expect(refusal).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  expect(await took(() => node.client.stopContainer({ containerId: stopped, timeout: Long.ZERO }))).toBeLessThan(5_000);
  await node.client.removeContainer({ containerId: stopped });
  await node.client.removeContainer({ containerId: removed });
  await node.client.stopPodSandbox({ podSandboxId });
  await Promise.all(execs);
  await node.client.removePodSandbox({ podSandboxId });
}, 60_000);

test("C20: a pod whose shared PID namespace has lost its init is not ready", async () => {
  const namespaces = { securityContext: { namespaceOptions: { pid: POD } } };
  const pod = { ...node.podConfig("headless"), linux: namespaces };
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const { info } = await node.client.podSandboxStatus({ podSandboxId, verbose: true });
  const monitor = JSON.parse(info?.info ?? "{}").pid;
  const [init = ""] = (await readFile(`/proc/${monitor}/task/${monitor}/children`, "utf8")).split(" ");
  expect(await readFile(`/proc/${init}/comm`, "utf8")).toBe("keelson-init\n");
  process.kill(Number(init), "SIGKILL");
  await until("it is not ready", 5_000, async () => {
    const told = await node.client.podSandboxStatus({ podSandboxId });
    return told.status?.state === runtime.v1.PodSandboxState.SANDBOX_NOTREADY ? true : undefined;
  });
  await node.client.removePodSandbox({ podSandboxId });
});
