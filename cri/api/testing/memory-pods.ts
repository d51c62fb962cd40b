// Pods without processes, for tests of the API edge alone: how requests are decoded and responses encoded.

import { randomBytes } from "node:crypto";
import type {
  ContainerConfig,
  ContainerFilter,
  ContainerId,
  ContainerView,
  PodEvent,
  Pods,
  SandboxConfig,
  SandboxFilter,
  SandboxId,
  SandboxView,
} from "../../../pod/types.ts";
import { criErrors } from "../../errors.ts";

/** The methods that a test may replace; the rest keeps sandboxes and containers in Maps. */
export type Overrides = Partial<Pods>;

export interface MemoryPods extends Pods {
  readonly sandboxViews: Map<string, SandboxView>;
  readonly containerViews: Map<string, ContainerView>;
}

export const startedAt = 1_795_223_900_123_456_789n;

export function memoryPods(overrides: Overrides = {}): MemoryPods {
  const sandboxViews = new Map<string, SandboxView>();
  const containerViews = new Map<string, ContainerView>();
  const absent = async (): Promise<never> => {
    throw criErrors.notImplemented({ version: "test", method: "this" });
  };
  const sandbox = (id: string): SandboxView => {
    const view = sandboxViews.get(id);
    if (view === undefined) throw criErrors.pathMissing({ path: id });
    return view;
  };
  const container = (id: string): ContainerView => {
    const view = containerViews.get(id);
    if (view === undefined) throw criErrors.pathMissing({ path: id });
    return view;
  };
  const sandboxes = (filter: SandboxFilter) =>
    [...sandboxViews.values()].filter((view) => filter.id === undefined || view.id === filter.id);
  const containers = (filter: ContainerFilter) =>
    [...containerViews.values()].filter(
      (view) => filter.sandboxId === undefined || view.sandboxId === filter.sandboxId,
    );
  return {
    sandboxViews,
    containerViews,
    async tidy() {},
    async runSandbox(config) {
      const view = sandboxView(config);
      sandboxViews.set(view.id, view);
      return view.id;
    },
    async stopSandbox() {},
    async removeSandbox(id) {
      sandboxViews.delete(id);
    },
    leftAlone: () => [],
    sandbox,
    sandboxes,
    containersOf: (id) => containers({ sandboxId: id, labels: new Map() }),
    async createContainer(sandboxId, config) {
      const view = containerView(sandbox(sandboxId).id, config);
      containerViews.set(view.id, view);
      return view.id;
    },
    async startContainer() {},
    async stopContainer() {},
    async removeContainer(id) {
      containerViews.delete(id);
    },
    container,
    containers,
    updateContainerResources: absent,
    updateSandboxResources: absent,
    execSync: absent,
    async reopenLog() {},
    checkpointContainer: absent,
    streamable: container,
    exec: absent,
    attach: absent,
    forwardable: sandbox,
    portForward: absent,
    containerStats: absent,
    async listContainerStats() {
      return [...containerViews.values()].map((view) => ({
        container: view,
        cpu: { timestamp: startedAt, usageCoreNanoSeconds: 123_456_789_012_345_678n },
      }));
    },
    sandboxStats: absent,
    async listSandboxStats() {
      return [...sandboxViews.values()].map((view) => ({
        sandbox: view,
        processCount: 3n,
        containers: [],
        network: {
          timestamp: startedAt,
          defaultInterface: {
            ...{ name: "eth0", rxBytes: 2n ** 64n - 1n, rxPackets: 3n, rxErrors: 0n, rxDropped: 0n },
            ...{ txBytes: 1n, txPackets: 1n, txErrors: 0n, txDropped: 0n },
          },
          interfaces: [],
        },
      }));
    },
    async sandboxMetrics() {
      return [];
    },
    async *events(): AsyncIterable<PodEvent> {},
    runtimeHandlers: () => [{ name: "", recursiveReadOnlyMounts: true, userNamespaces: false }],
    async sandboxInfo(id) {
      return { pid: 42, config: sandbox(id).config };
    },
    async containerInfo(id) {
      return { pid: 43, createdAt: container(id).createdAt };
    },
    async close() {},
    ...overrides,
  };
}

function sandboxView(config: SandboxConfig): SandboxView {
  return {
    id: newId() as SandboxId,
    config,
    state: "ready",
    createdAt: startedAt,
    runtimeHandler: "",
    ips: ["10.1.0.2", "fd00::2"],
    netnsPath: "",
    monitorPid: 0,
    leftovers: [],
    timeline: [],
  };
}

function containerView(sandboxId: SandboxId, config: ContainerConfig): ContainerView {
  return {
    id: newId() as ContainerId,
    sandboxId,
    config,
    phase: { state: "exited", startedAt, finishedAt: startedAt + 1n, exitCode: 137, reason: "OOMKilled", message: "" },
    createdAt: startedAt,
    imageId: `sha256:${"a".repeat(64)}`,
    shownImage: { name: config.image.image, reference: `registry.example/busybox@sha256:${"b".repeat(64)}` },
    logPath: "/var/log/pods/x/0.log",
    user: { uid: 1000n, gid: 4_294_967_294n, supplementalGroups: [5n] },
    ...(config.resources ? { resources: config.resources } : {}),
    stopSignal: config.stopSignal ?? "SIGTERM",
  };
}

function newId(): string {
  return randomBytes(32).toString("hex");
}
