// The daemon's own metrics: its calls, plugins, pulls and queues when they complete, and the state of pods and images
// at each scrape. METRICS.md lists every name, next to those of containerd and CRI-O.
//
// Bounds: names per kind of work (`nameLimit`, the rest is "other"), so that no client can create unlimited series.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Network } from "../../cni/types.ts";
import type { ImageStore } from "../../image/types.ts";
import { type Outcome, type Work, watchWork } from "../../native/index.ts";
import type { Pods } from "../../pod/index.ts";
import { imageMethods, keelsonImageMethods, keelsonNodeMethods, runtimeMethods } from "../api/methods.ts";

const nameLimit = 64;
/** Seconds, from a short ExecSync to a pull that takes minutes. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
/** Sampling interval of the event loop delay, milliseconds. */
export const loopPrecision = 50;

export interface Measured {
  readonly pods: Pick<Pods, "sandboxes" | "containers">;
  readonly network: Pick<Network, "leases">;
  readonly images: Pick<ImageStore, "list" | "fileSystemUse">;
  readonly version: string;
}

export class MetricsRegistry {
  readonly #registry = new Registry();
  readonly #leave: () => void;

  constructor(measured: Measured) {
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: loopPrecision });
    this.#leave = this.#countWork();
    this.#registerState(measured);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  close(): void {
    this.#leave();
    this.#registry.clear();
  }

  #countWork(): () => void {
    const registers = [this.#registry];
    const rpc = ["grpc_type", "grpc_service", "grpc_method"] as const;
    const handled = new Counter({
      name: "grpc_server_handled_total",
      help: "Completed RPCs, by gRPC code.",
      labelNames: [...rpc, "grpc_code"],
      registers,
    });
    const handling = new Histogram({
      name: "grpc_server_handling_seconds",
      help: "Duration of RPCs, from request to response.",
      labelNames: [...rpc],
      buckets,
      registers,
    });
    const seconds = new Histogram({
      name: "keelson_work_seconds",
      help: "Duration of work within RPCs: CNI plugins, monitor calls, pulls, registry requests, turns in pod queues.",
      labelNames: ["kind", "name", "outcome"],
      buckets,
      registers,
    });
    const inProgress = new Gauge({
      name: "keelson_work_in_progress",
      help: "Work in progress, by kind; work that waits in a pod queue counts as a turn.",
      labelNames: ["kind"],
      registers,
    });
    const names = new Map<Work["kind"], Set<string>>();
    // Work that began before this registration is not counted.
    const begun = new WeakSet<Work>();
    return watchWork(
      (work) => {
        begun.add(work);
        inProgress.inc({ kind: work.kind });
      },
      (work, outcome) => {
        const { kind, name, since } = work;
        if (begun.delete(work)) inProgress.dec({ kind });
        const took = (performance.now() - since) / 1000;
        const method = kind === "call" ? methodLabels(name) : undefined;
        if (method === undefined) return seconds.observe({ kind, name: known(names, kind, name), outcome }, took);
        handled.inc({ ...method, grpc_code: code(outcome) });
        handling.observe(method, took);
      },
    );
  }

  #registerState({ pods, network, images, version }: Measured): void {
    const registers = [this.#registry];
    const gauge = <Label extends string>(
      name: string,
      help: string,
      labelNames: readonly Label[],
      collect: (gauge: Gauge<Label>) => void | Promise<void>,
    ) => {
      new Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers,
        async collect() {
          this.reset();
          await collect(this);
        },
      });
    };
    gauge("keelson_build_info", "Always 1; the versions are labels.", ["version", "node"], (it) =>
      it.set({ version, node: process.versions.node }, 1),
    );
    gauge("keelson_sandboxes", "Pod sandboxes by state.", ["state"], (it) => {
      for (const state of ["ready", "not-ready"]) it.set({ state }, 0);
      for (const { state } of pods.sandboxes({ labels: new Map() })) it.inc({ state });
    });
    gauge("keelson_containers", "Containers by state.", ["state"], (it) => {
      for (const state of ["created", "running", "exited"]) it.set({ state }, 0);
      for (const { phase } of pods.containers({ labels: new Map() })) it.inc({ state: phase.state });
    });
    gauge("keelson_leftovers", "Sandboxes with resources that could not be rolled back or cleaned up.", [], (it) =>
      it.set(pods.sandboxes({ labels: new Map() }).filter(({ leftovers }) => leftovers.length > 0).length),
    );
    gauge("keelson_network_leases", "Network attachments by state; failed ones are retried.", ["state"], (it) => {
      for (const state of ["attached", "attaching", "detach-failed", "given-up"]) it.set({ state }, 0);
      for (const { state } of network.leases()) it.inc({ state });
    });
    gauge("keelson_images", "Images in the store.", [], (it) => it.set(images.list().length));
    gauge(
      "keelson_image_store_bytes",
      "Size of blobs and unpacked layers, and of writable layers, in bytes.",
      ["part"],
      async (it) => {
        const use = await images.fileSystemUse();
        it.set({ part: "images" }, Number(use.images.usedBytes));
        it.set({ part: "containers" }, Number(use.containers.usedBytes));
      },
    );
  }
}

const services = [
  ["runtime.v1.RuntimeService", runtimeMethods],
  ["runtime.v1.ImageService", imageMethods],
  ["keelson.v1.Images", keelsonImageMethods],
  ["keelson.v1.Node", keelsonNodeMethods],
] as const;

/** Labels as in go-grpc-prometheus. */
const methods = new Map(
  services.flatMap(([service, table]) =>
    Object.entries(table).map(([method, { kind }]) => [
      method,
      { grpc_type: kind === "unary" ? "unary" : "server_stream", grpc_service: service, grpc_method: method },
    ]),
  ),
);

function methodLabels(name: string) {
  return methods.get(name) ?? { grpc_type: "unary", grpc_service: "unknown", grpc_method: "unknown" };
}

/** Uses gRPC's own spelling. */
function code(outcome: Outcome): string {
  return outcome === "Cancelled" ? "Canceled" : outcome;
}

function known(names: Map<Work["kind"], Set<string>>, kind: Work["kind"], name: string): string {
  const set = names.get(kind) ?? new Set();
  names.set(kind, set);
  if (!set.has(name) && set.size >= nameLimit) return "other";
  set.add(name);
  return name;
}
