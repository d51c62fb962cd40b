// Issue 8, A1: nothing of ours that a container can see has a capability, a root or a descriptor that its spec does not
// give. A container with CAP_SYS_PTRACE looks at every process that enters it, and at every sibling that starts.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import Long from "long";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../cri/generated/messages.js";
import { type PodConfig, startNode, type TestNode } from "./fixtures/node.ts";
import { until } from "./fixtures/steps.ts";

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
  const source = join(import.meta.dirname, "fixtures/entry-watcher.cc");
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
