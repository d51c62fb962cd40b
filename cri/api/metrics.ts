// ListMetricDescriptors and ListPodSandboxMetrics: the stats under the names that cAdvisor gave them and dashboards know.
// Source: KEP-2371; cAdvisor docs/storage/prometheus.md.
//
// Values are whole numbers (UInt64Value): fractions of seconds are cut off, not rounded.

import type { ContainerStats, SandboxStats } from "../../pod/stats-types.ts";
import type { ContainerView, Pods, Resources, SandboxView } from "../../pod/types.ts";
import { toLong } from "./encode-fields.ts";
import { Encoded, inMessages, messageField } from "./encoded.ts";
import { runtime } from "./generated/messages.js";
import type { Handlers, runtimeMethods } from "./methods.ts";

type Kind = "counter" | "gauge";

/** One value with what its own labels say, besides the labels that all have. */
interface Reading {
  readonly labels: readonly string[];
  readonly value: bigint;
}

interface Descriptor<Subject> {
  readonly name: string;
  readonly help: string;
  readonly kind: Kind;
  readonly labels: readonly string[];
  readonly read: (subject: Subject) => readonly Reading[];
}

/** Every metric begins with these labels. */
const commonLabels = ["container", "id", "image", "name", "namespace", "pod"];

const nanosecondsInSecond = 1_000_000_000n;
const microsecondsInSecond = 1_000_000n;

function plain<Subject>(
  kind: Kind,
  name: string,
  help: string,
  read: (subject: Subject) => bigint | undefined,
): Descriptor<Subject> {
  const readings = (subject: Subject) => {
    const value = read(subject);
    return value === undefined ? [] : [{ labels: [], value }];
  };
  return { name, help, kind, labels: [], read: readings };
}

const ofContainers: readonly Descriptor<ContainerStats>[] = [
  plain("counter", "container_cpu_usage_seconds_total", "CPU time used, seconds.", ({ cpu }) =>
    cpu === undefined ? undefined : cpu.usageCoreNanoSeconds / nanosecondsInSecond,
  ),
  plain(
    "gauge",
    "container_memory_usage_bytes",
    "Memory charged, caches included.",
    ({ memory }) => memory?.usageBytes,
  ),
  plain(
    "gauge",
    "container_memory_working_set_bytes",
    "Memory in use that cannot be reclaimed at once.",
    ({ memory }) => memory?.workingSetBytes,
  ),
  plain("gauge", "container_memory_rss", "Anonymous memory, bytes.", ({ memory }) => memory?.rssBytes),
  plain("gauge", "container_memory_swap", "Swap in use, bytes.", ({ swap }) => swap?.usageBytes),
  {
    name: "container_memory_failures_total",
    help: "Page faults.",
    kind: "counter",
    labels: ["failure_type", "scope"],
    read: ({ memory }) =>
      memory === undefined
        ? []
        : [
            { labels: ["pgfault", "hierarchy"], value: memory.pageFaults },
            { labels: ["pgmajfault", "hierarchy"], value: memory.majorPageFaults },
          ],
  },
  plain(
    "gauge",
    "container_fs_usage_bytes",
    "Bytes in the writable layer.",
    ({ writableLayer }) => writableLayer?.usedBytes,
  ),
  plain(
    "gauge",
    "container_fs_inodes_used",
    "Inodes in the writable layer.",
    ({ writableLayer }) => writableLayer?.inodesUsed,
  ),
  plain(
    "gauge",
    "container_spec_cpu_period",
    "CFS period, microseconds.",
    limit(({ cpuPeriod }) => cpuPeriod),
  ),
  plain(
    "gauge",
    "container_spec_cpu_quota",
    "CFS quota, microseconds.",
    limit(({ cpuQuota }) => cpuQuota),
  ),
  plain(
    "gauge",
    "container_spec_cpu_shares",
    "CPU shares.",
    limit(({ cpuShares }) => cpuShares),
  ),
  plain(
    "gauge",
    "container_spec_memory_limit_bytes",
    "Memory limit.",
    limit(({ memoryLimit }) => memoryLimit),
  ),
  plain(
    "gauge",
    "container_spec_memory_swap_limit_bytes",
    "Limit of memory and swap.",
    limit(({ memorySwapLimit }) => memorySwapLimit),
  ),
  plain(
    "gauge",
    "container_start_time_seconds",
    "When it started, seconds since the epoch.",
    ({ container: { phase } }) => (phase.state === "running" ? phase.startedAt / nanosecondsInSecond : undefined),
  ),
  plain("gauge", "container_last_seen", "When it was read, seconds since the epoch.", ({ cpu }) =>
    cpu === undefined ? undefined : cpu.timestamp / nanosecondsInSecond,
  ),
  ...pressureMetrics("cpu", "CPU", ({ cpu }) => cpu?.pressure),
  ...pressureMetrics("memory", "memory", ({ memory }) => memory?.pressure),
  ...pressureMetrics("io", "I/O", ({ ioPressure }) => ioPressure),
];

const ofSandboxes: readonly Descriptor<SandboxStats>[] = [
  ...interfaceMetrics("receive", "received", ({ rxBytes, rxErrors }) => ({ bytes: rxBytes, errors: rxErrors })),
  ...interfaceMetrics("transmit", "sent", ({ txBytes, txErrors }) => ({ bytes: txBytes, errors: txErrors })),
  plain("gauge", "container_processes", "Processes of the pod.", ({ processCount }) => processCount),
];

/** 0 is "not set", below it "no limit": neither is a figure. */
function limit(read: (resources: Resources) => bigint) {
  return ({ container: { resources } }: ContainerStats) => {
    const value = resources === undefined ? 0n : read(resources);
    return value > 0n ? value : undefined;
  };
}

function pressureMetrics(
  resource: string,
  words: string,
  read: (stats: ContainerStats) => { some: { total: bigint }; full: { total: bigint } } | undefined,
): Descriptor<ContainerStats>[] {
  const seconds = (kind: "some" | "full") => (stats: ContainerStats) => {
    const pressure = read(stats);
    return pressure === undefined ? undefined : pressure[kind].total / microsecondsInSecond;
  };
  return [
    plain(
      "counter",
      `container_pressure_${resource}_waiting_seconds_total`,
      `Time some process waited for ${words}, seconds.`,
      seconds("some"),
    ),
    plain(
      "counter",
      `container_pressure_${resource}_stalled_seconds_total`,
      `Time all processes waited for ${words}, seconds.`,
      seconds("full"),
    ),
  ];
}

type Interface = NonNullable<NonNullable<SandboxStats["network"]>["defaultInterface"]>;

function interfaceMetrics(
  direction: string,
  done: string,
  read: (counts: Interface) => { readonly bytes: bigint; readonly errors: bigint },
): Descriptor<SandboxStats>[] {
  const each = (pick: "bytes" | "errors") => (stats: SandboxStats) => {
    const { defaultInterface, interfaces = [] } = stats.network ?? {};
    const all = defaultInterface === undefined ? interfaces : [defaultInterface, ...interfaces];
    return all.map((counts) => ({ labels: [counts.name], value: read(counts)[pick] }));
  };
  const common = { kind: "counter", labels: ["interface"] } as const;
  return [
    { ...common, name: `container_network_${direction}_bytes_total`, help: `Bytes ${done}.`, read: each("bytes") },
    {
      ...common,
      name: `container_network_${direction}_errors_total`,
      help: `Errors while packets were ${done}.`,
      read: each("errors"),
    },
  ];
}

export function metricCalls(pods: Pick<Pods, "listSandboxStats">) {
  const encoded = async () => (await pods.listSandboxStats({ labels: new Map() })).map(encodeSandbox);
  return {
    async ListMetricDescriptors() {
      return {
        descriptors: [...ofContainers, ...ofSandboxes].map(({ name, help, labels }) => ({
          name,
          help,
          labelKeys: [...commonLabels, ...labels],
        })),
      };
    },

    async ListPodSandboxMetrics() {
      return new Encoded(Buffer.concat(await encoded()));
    },

    async *StreamPodSandboxMetrics() {
      yield* inMessages(await encoded());
    },
  } satisfies Handlers<typeof runtimeMethods>;
}

function encodeSandbox(stats: SandboxStats): Buffer {
  const { sandbox } = stats;
  const message = runtime.v1.PodSandboxMetrics.encode({
    podSandboxId: sandbox.id,
    metrics: metrics(ofSandboxes, stats, podLabels(sandbox)),
    containerMetrics: stats.containers.map((one) => ({
      containerId: one.container.id,
      metrics: metrics(ofContainers, one, containerLabels(sandbox, one.container)),
    })),
  });
  return messageField(1, message.finish());
}

function metrics<Subject>(
  descriptors: readonly Descriptor<Subject>[],
  subject: Subject,
  common: readonly string[],
): runtime.v1.Metric.$Properties[] {
  const { COUNTER, GAUGE } = runtime.v1.MetricType;
  return descriptors.flatMap(({ name, kind, read }) =>
    read(subject).map(({ labels, value }) => ({
      name,
      metricType: kind === "counter" ? COUNTER : GAUGE,
      labelValues: [...common, ...labels],
      value: { value: toLong(value) },
    })),
  );
}

/** In the order of `commonLabels`. cAdvisor calls a pod's own cgroup "POD". */
function podLabels({ id, config: { metadata } }: SandboxView): string[] {
  return ["POD", id, "", metadata.name, metadata.namespace, metadata.name];
}

function containerLabels({ config: { metadata } }: SandboxView, { id, config }: ContainerView): string[] {
  return [config.metadata.name, id, config.image.image, config.metadata.name, metadata.namespace, metadata.name];
}
