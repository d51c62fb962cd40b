// ListMetricDescriptors and ListPodSandboxMetrics: the stats under cAdvisor's names, which dashboards use.
// Source: KEP-2371; cAdvisor docs/storage/prometheus.md.
//
// Values are integers (UInt64Value): fractions of seconds are truncated, not rounded.

import type { InterfaceStats, SandboxMetrics, SandboxStats } from "../../pod/stats/types.ts";
import type { ContainerView, Pods, SandboxView } from "../../pod/types.ts";
import { containerMetrics } from "./container-metrics.ts";
import { toLong } from "./encode-fields.ts";
import { Encoded, inMessages, messageField } from "./encoded.ts";
import { runtime } from "./generated/messages.js";
import type { Handlers, runtimeMethods } from "./methods.ts";
import type { Descriptor } from "./metric.ts";

/** Every metric begins with these labels. */
const commonLabels = ["container", "id", "image", "name", "namespace", "pod"];

const sandboxMetrics: readonly Descriptor<SandboxStats>[] = [
  ofInterfaces("container_network_receive_bytes_total", "Bytes received.", ({ rxBytes }) => rxBytes),
  ofInterfaces("container_network_receive_packets_total", "Packets received.", ({ rxPackets }) => rxPackets),
  ofInterfaces(
    "container_network_receive_packets_dropped_total",
    "Packets dropped while receiving.",
    ({ rxDropped }) => rxDropped,
  ),
  ofInterfaces("container_network_receive_errors_total", "Errors while receiving.", ({ rxErrors }) => rxErrors),
  ofInterfaces("container_network_transmit_bytes_total", "Bytes sent.", ({ txBytes }) => txBytes),
  ofInterfaces("container_network_transmit_packets_total", "Packets sent.", ({ txPackets }) => txPackets),
  ofInterfaces(
    "container_network_transmit_packets_dropped_total",
    "Packets dropped while sending.",
    ({ txDropped }) => txDropped,
  ),
  ofInterfaces("container_network_transmit_errors_total", "Errors while sending.", ({ txErrors }) => txErrors),
];

/** Metrics of all interfaces except loopback, which cAdvisor leaves out too. */
function ofInterfaces(name: string, help: string, pick: (counts: InterfaceStats) => bigint): Descriptor<SandboxStats> {
  const read = ({ network }: SandboxStats) => {
    const all = network === undefined ? [] : [network.defaultInterface, ...network.interfaces];
    const outward = all.filter(({ name }) => name !== "lo");
    return outward.map((counts) => ({ labels: [counts.name], value: pick(counts) }));
  };
  return { name, help, kind: "counter", labels: ["interface"], read };
}

export function metricCalls(pods: Pick<Pods, "sandboxMetrics">) {
  const encoded = async () => (await pods.sandboxMetrics()).map(encodeSandbox);
  return {
    async ListMetricDescriptors() {
      return {
        descriptors: [...containerMetrics, ...sandboxMetrics].map(({ name, help, labels }) => ({
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

function encodeSandbox({ stats, containers, fileSystem }: SandboxMetrics): Buffer {
  const { sandbox } = stats;
  const message = runtime.v1.PodSandboxMetrics.encode({
    podSandboxId: sandbox.id,
    metrics: metrics(sandboxMetrics, stats, podLabels(sandbox)),
    containerMetrics: stats.containers.map((one) => {
      const reading = { stats: one, metrics: containers.get(one.container.id), fileSystem };
      return {
        containerId: one.container.id,
        metrics: metrics(containerMetrics, reading, containerLabels(sandbox, one.container)),
      };
    }),
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

function containerLabels({ config: { metadata } }: SandboxView, { id, config, shownImage }: ContainerView): string[] {
  return [config.metadata.name, id, shownImage.name, config.metadata.name, metadata.namespace, metadata.name];
}
