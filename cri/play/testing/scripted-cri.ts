// An in-memory CRI server whose containers follow a test's script, attempt by attempt.

import { status } from "@grpc/grpc-js";
import { runtime } from "../../api/generated/messages.js";
import type { Cri } from "../cri-client.ts";

const v1 = runtime.v1;
const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = v1.ContainerState;

/** One attempt of a container; without `exitAfterMs` it runs until it is stopped. */
export interface Act {
  readonly exitAfterMs?: number;
  readonly exitCode?: number;
  readonly startError?: string;
  /** It starts, but the answer is lost. */
  readonly answerLost?: boolean;
  /** Duration of its start. */
  readonly startMs?: number;
  /** The exit code and duration of its stop. */
  readonly stopExit?: number;
  readonly stopMs?: number;
  /** The result of execSync in it; Infinity hangs until the deadline. */
  readonly execExit?: number;
}

interface ScriptedContainer {
  readonly id: string;
  readonly name: string;
  readonly sandbox: string;
  readonly act: Act;
  readonly config: runtime.v1.ContainerConfig.$Properties;
  state: runtime.v1.ContainerState;
  exitCode: number;
  finishedAt: number;
}

export class ServerError extends Error {
  readonly code: status;
  readonly details: string;

  constructor(code: status, details: string) {
    super(`${code}: ${details}`);
    this.code = code;
    this.details = details;
  }
}

/** `script` is by container name; the last act is repeated for all further attempts. */
export class ScriptedCri {
  /** "12.5 start app": seconds since the start. */
  readonly calls: string[] = [];
  readonly sandboxes = new Map<string, { ready: boolean; config: runtime.v1.PodSandboxConfig.$Properties }>();
  readonly containers = new Map<string, ScriptedContainer>();
  /** The server is unreachable. */
  away = false;
  /** Pulls fail with this error. */
  pullError: string | undefined;
  /** Sandboxes never become ready, as with a hanging network plugin. */
  sandboxesHang = false;
  readonly #script: Readonly<Record<string, readonly Act[]>>;
  readonly #began = Date.now();
  readonly #attempts = new Map<string, number>();
  #onEvent: () => void = () => undefined;
  #ids = 0;

  constructor(script: Readonly<Record<string, readonly Act[]>>) {
    this.#script = script;
  }

  /** The calls without their times. */
  get order(): string[] {
    return this.calls.map((line) => line.replace(/^\S+ /, ""));
  }

  /** The times of each call, in seconds. */
  times(call: string): number[] {
    return this.calls
      .map((line) => line.split(/ (.*)/, 2))
      .flatMap(([time, name]) => (name === call ? [Number(time)] : []));
  }

  /** As if someone else had stopped the sandboxes. */
  loseSandboxes(): void {
    for (const sandbox of this.sandboxes.values()) sandbox.ready = false;
    for (const container of this.containers.values()) this.#exit(container, 137);
  }

  readonly cri: Cri = {
    version: async () => new v1.VersionResponse({}),
    runPodSandbox: async ({ config }, { signal } = {}) => {
      this.#called("sandbox");
      if (this.sandboxesHang) await new Promise((_, reject) => signal?.addEventListener("abort", reject));
      const podSandboxId = `sandbox-${++this.#ids}`;
      this.sandboxes.set(podSandboxId, { ready: true, config: config ?? {} });
      return new v1.RunPodSandboxResponse({ podSandboxId });
    },
    stopPodSandbox: async ({ podSandboxId }) => {
      this.#called("stop sandbox");
      const sandbox = this.sandboxes.get(podSandboxId ?? "");
      if (sandbox) sandbox.ready = false;
      for (const container of this.containers.values())
        if (container.sandbox === podSandboxId) this.#exit(container, 137);
      return new v1.StopPodSandboxResponse({});
    },
    removePodSandbox: async ({ podSandboxId }) => {
      this.#called("remove sandbox");
      this.sandboxes.delete(podSandboxId ?? "");
      for (const { id, sandbox } of [...this.containers.values()])
        if (sandbox === podSandboxId) this.containers.delete(id);
      return new v1.RemovePodSandboxResponse({});
    },
    podSandboxStatus: async () => {
      this.#answer();
      return new v1.PodSandboxStatusResponse({ status: { network: { ip: "10.0.0.7" } } });
    },
    listPodSandbox: async ({ filter }) => {
      this.#answer();
      const state = ({ ready }: { ready: boolean }) =>
        ready ? v1.PodSandboxState.SANDBOX_READY : v1.PodSandboxState.SANDBOX_NOTREADY;
      return new v1.ListPodSandboxResponse({
        items: [...this.sandboxes]
          .filter(([, { config }]) => isSelected(config.labels, filter?.labelSelector))
          .map(([id, each]) => ({ id, state: state(each) })),
      });
    },
    createContainer: async ({ podSandboxId, config }) => {
      const name = config?.metadata?.name ?? "";
      this.#called(`create ${name}`);
      const attempt = this.#attempts.get(name) ?? 0;
      this.#attempts.set(name, attempt + 1);
      const acts = this.#script[name] ?? [{}];
      const containerId = `${name}-${++this.#ids}`;
      this.containers.set(containerId, {
        id: containerId,
        name,
        sandbox: podSandboxId ?? "",
        act: acts[Math.min(attempt, acts.length - 1)] ?? {},
        config: config ?? {},
        state: CONTAINER_CREATED,
        exitCode: 0,
        finishedAt: 0,
      });
      return new v1.CreateContainerResponse({ containerId });
    },
    startContainer: async ({ containerId }) => {
      const container = this.#container(containerId);
      this.#called(`start ${container.name}`);
      const { startError, startMs, exitAfterMs, exitCode = 0 } = container.act;
      if (startMs !== undefined) await new Promise((resolve) => setTimeout(resolve, startMs));
      if (startError !== undefined) {
        this.#exit(container, 127);
        throw new ServerError(status.INTERNAL, startError);
      }
      container.state = CONTAINER_RUNNING;
      if (container.act.answerLost) throw new ServerError(status.UNAVAILABLE, "Connection dropped");
      if (exitAfterMs !== undefined) setTimeout(() => this.#exit(container, exitCode), exitAfterMs);
      return new v1.StartContainerResponse({});
    },
    stopContainer: async ({ containerId, timeout }) => {
      const container = this.#container(containerId);
      this.#called(`stop ${container.name} ${timeout}`);
      const { stopExit = 143, stopMs = 0 } = container.act;
      if (stopMs > 0 && Number(timeout) > 0) await new Promise((resolve) => setTimeout(resolve, stopMs));
      this.#exit(container, stopExit);
      return new v1.StopContainerResponse({});
    },
    removeContainer: async ({ containerId }) => {
      this.#answer();
      this.containers.delete(containerId ?? "");
      return new v1.RemoveContainerResponse({});
    },
    containerStatus: async ({ containerId }) => {
      this.#answer();
      const { state, exitCode, finishedAt } = this.#container(containerId);
      const response = {
        status: {
          state,
          exitCode,
          finishedAt: v1.ContainerStatus.decode(new Uint8Array()).finishedAt.add(finishedAt * 1e6),
        },
      };
      return new v1.ContainerStatusResponse(response);
    },
    listContainers: async ({ filter }) => {
      this.#answer();
      return new v1.ListContainersResponse({
        containers: [...this.containers.values()]
          .filter(({ config }) => isSelected(config.labels, filter?.labelSelector))
          .map(({ id, state }) => ({ id, state })),
      });
    },
    reopenContainerLog: async () => new v1.ReopenContainerLogResponse({}),
    execSync: async ({ containerId }, { ms = 0, signal } = {}) => {
      this.#answer();
      const { execExit = 0 } = this.#container(containerId).act;
      if (execExit !== Number.POSITIVE_INFINITY) return new v1.ExecSyncResponse({ exitCode: execExit });
      return await new Promise((_, reject) => {
        const late = setTimeout(() => reject(new ServerError(status.DEADLINE_EXCEEDED, "it did not end")), ms);
        const cancel = () => {
          clearTimeout(late);
          reject(signal?.reason);
        };
        signal?.addEventListener("abort", cancel, { once: true });
      });
    },
    imageStatus: async ({ image }) => {
      this.#answer();
      const isThere = image?.image?.startsWith("local/");
      return new v1.ImageStatusResponse(isThere ? { image: { id: `id of ${image?.image}` } } : {});
    },
    pullImage: async ({ image }) => {
      this.#called(`pull ${image?.image}`);
      if (this.pullError !== undefined) throw new ServerError(status.NOT_FOUND, this.pullError);
      return new v1.PullImageResponse({ imageRef: `local/${image?.image}` });
    },
    containerEvents: async (onEvent, signal) => {
      this.#onEvent = onEvent;
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    },
    close: () => undefined,
  };

  #container(id: string | null | undefined): ScriptedContainer {
    const container = this.containers.get(id ?? "");
    if (container === undefined) throw new ServerError(status.NOT_FOUND, `no container ${id}`);
    return container;
  }

  #exit(container: ScriptedContainer, exitCode: number): void {
    if (container.state === CONTAINER_EXITED) return;
    Object.assign(container, { state: CONTAINER_EXITED, exitCode, finishedAt: Date.now() });
    this.#onEvent();
  }

  #called(call: string): void {
    this.#answer();
    this.calls.push(`${(Date.now() - this.#began) / 1000} ${call}`);
  }

  #answer(): void {
    if (this.away) throw new ServerError(status.UNAVAILABLE, "No connection established");
  }
}

type Labels = { readonly [name: string]: string } | null | undefined;

function isSelected(labels: Labels, selector: Labels): boolean {
  return Object.entries(selector ?? {}).every(([name, value]) => labels?.[name] === value);
}
