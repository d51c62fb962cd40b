// How processes enter containers, through CRI requests. No process of ours that a container can see has a
// capability, root or descriptor that the container's spec does not grant. A container with CAP_SYS_PTRACE inspects
// every process that enters it, and every sibling that starts.

import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { buildWatcher, cgroupOf, freeze, podWith, took } from "../fixtures/entering.ts";
import { type PodConfig, startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const { POD, CONTAINER, TARGET } = runtime.v1.NamespaceMode;
/** `.ci/run` runs 500. */
const rounds = Number(process.env.KEELSON_RACE_ROUNDS ?? 150);
/** How many siblings are started concurrently; the pod's queue runs them one by one. */
const sideBySide = 4;

interface WatcherReport {
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
  program = await buildWatcher(node);
  await writeFile(join(node.directory, "host-only"), "");
}, 60_000);
afterAll(() => node.close());

interface Scene {
  readonly pod: PodConfig;
  readonly podSandboxId: string;
  /** The security context of the containers started after it. */
  readonly securityContext: object;
  readonly watcherId: string;
  readonly log: string;
}

/** A pod with the attacker, and a neighbour with a secret in its environment. */
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

/** Stops the attacker, removes the pod and returns what the attacker saw. */
async function stopWatcher({ podSandboxId, watcherId, log }: Scene): Promise<WatcherReport> {
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
    if (number < 0) throw new Error(`unknown capability ${name}`);
    return set | (1n << BigInt(number));
  }, 0n);
}

/** No findings, although processes were inspected, also before their execve. */
function expectNothingCaught(saw: WatcherReport): void {
  expect(saw.findings).toEqual([]);
  expect(saw.early).toBeGreaterThan(rounds / 50);
  expect(saw.seized).toBeGreaterThan(0);
}

describe("a container with CAP_SYS_PTRACE that inspects every entering process", () => {
  test.each([
    { words: "with no_new_privs", noNewPrivs: true },
    { words: "without no_new_privs", noNewPrivs: false },
  ])(
    `finds nothing in ${rounds} execs $words`,
    async ({ noNewPrivs }) => {
      const view = await scene(`exec-${noNewPrivs}`, CONTAINER, { noNewPrivs });
      for (let round = 0; round < rounds; round += 1) {
        const { exitCode } = await node.client.execSync({ containerId: view.watcherId, cmd: ["true"] });
        expect(exitCode).toBe(0);
      }
      const saw = await stopWatcher(view);
      expectNothingCaught(saw);
    },
    120_000,
  );

  test.each([
    { words: "in the pod's PID namespace", pid: POD, siblingPid: POD },
    { words: "that target its PID namespace", pid: CONTAINER, siblingPid: TARGET },
  ])(
    `finds nothing in ${rounds} starts of siblings $words`,
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
      const saw = await stopWatcher(view);
      expectNothingCaught(saw);
    },
    300_000,
  );
});

/** A pod with containers that run shell scripts, each with its own PID namespace; returns their IDs. */
describe("a StartContainer", () => {
  interface Hanging {
    readonly podSandboxId: string;
    readonly containerId: string;
    readonly cgroup: string;
    readonly started: Promise<unknown>;
    /** The file that its command would create. */
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
    const cgroup = await cgroupOf(node, containerId);
    await freeze(cgroup, true);
    const started = node.client.startContainer({ containerId }, 60_000).catch((error: unknown) => error);
    await delay(500);
    return { podSandboxId, containerId, cgroup, started, trace: join(traces, "ran") };
  }

  async function neverRan({ trace, cgroup }: Hanging): Promise<void> {
    await freeze(cgroup, false).catch(() => "already removed");
    await delay(500);
    await expect(access(trace)).rejects.toMatchObject({ code: "ENOENT" });
  }

  test("that hangs fails at its deadline, and the container never runs", async () => {
    const start = await hangingStart("late");
    expect(await start.started).toMatchObject({ code: status.DEADLINE_EXCEEDED });
    const { status: told } = await node.client.containerStatus({ containerId: start.containerId });
    expect(told).toMatchObject({ state: runtime.v1.ContainerState.CONTAINER_EXITED, exitCode: 128 });
    await neverRan(start);
    await node.client.removePodSandbox({ podSandboxId: start.podSandboxId });
  });

  test("delays StopContainer, which aborts it when the grace period is over", async () => {
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
  });

  test("that was in progress when the daemon was killed never completes later", async () => {
    const start = await hangingStart("orphaned");
    await node.daemon.kill();
    await node.daemon.start();
    await neverRan(start);
    const { status: told } = await node.client.containerStatus({ containerId: start.containerId });
    expect(told?.state).not.toBe(runtime.v1.ContainerState.CONTAINER_RUNNING);
    await start.started;
    await node.client.removePodSandbox({ podSandboxId: start.podSandboxId });
  });
});

test("with 128 execs open in a pod, StopContainer, RemoveContainer and StopPodSandbox succeed", async () => {
  const { podSandboxId, ids } = await podWith(node, CONTAINER, "full", "sleep 100000", "sleep 100000", "sleep 100000");
  const [holder = "", stopped = "", removed = ""] = ids;
  const execs = Array.from({ length: 128 }, () =>
    node.client.execSync({ containerId: holder, cmd: ["sleep", "100000"], timeout: Long.ZERO }).catch(() => undefined),
  );
  const refusal = await until("further execs are refused", 10_000, async () => {
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

test("a pod whose shared PID namespace has lost its init is not ready", async () => {
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
