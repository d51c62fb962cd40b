// Where the suites run: a cluster of two nodes for e2e.test, a bare node for e2e_node.test.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startRegistry } from "../../../image/testing/registry.ts";
import { startBareNode } from "../../fixtures/kubernetes/bare-node.ts";
import { startCluster } from "../../fixtures/kubernetes/cluster.ts";
import { startClusterDns } from "../../fixtures/kubernetes/cluster-dns.ts";
import { suiteRegistries } from "../../fixtures/kubernetes/images.ts";
import { controlPlaneAddress, createClusterNetwork } from "../../fixtures/kubernetes/network.ts";
import { clusterDns } from "../../fixtures/kubernetes/node.ts";
import { ociHandlers } from "../../fixtures/oci-runtimes.ts";
import type { Place } from "./run.ts";

export interface Started extends Omit<Place, "directory"> {
  stop(): Promise<void>;
}

/** One spec of the conformance suite requires two nodes. */
export async function startClusterPlace(directory: string, programs: string, storage: string): Promise<Started> {
  const cluster = await startCluster(directory, programs);
  const registry = await startRegistry({ storage, host: controlPlaneAddress, port: 5000 });
  const registries = { names: suiteRegistries, address: registry.address };
  await cluster.addNode({ registries });
  await cluster.addNode({ registries });
  await startClusterDns(cluster, clusterDns);
  return {
    enter: [],
    flags: [
      `--kubeconfig=${cluster.controlPlane.kubeConfigFile}`,
      `--kubectl-path=${join(programs, "kubectl")}`,
      "--provider=skeleton",
      "--node-os-distro=debian",
    ],
    stop: async () => {
      await cluster.stop();
      await registry.stop();
    },
  };
}

/** The subnet that Kubernetes' own CI jobs use for this suite. */
const podCidr = "10.100.0.0/24";

/** The suite starts etcd, the API server and the kubelet itself. */
export async function startNodePlace(directory: string, programs: string, storage: string): Promise<Started> {
  const work = join(directory, "suite");
  await mkdir(work, { recursive: true });
  await createClusterNetwork();
  const registry = await startRegistry({ storage, host: controlPlaneAddress, port: 5000 });
  const { runc } = await ociHandlers();
  const node = await startBareNode(directory, {
    podCidr,
    registries: { names: suiteRegistries, address: registry.address },
    ...(runc === undefined ? {} : { handlers: { "test-handler": runc } }),
    etc: {
      // The RuntimeClass specs look for the handler in this file.
      "containerd/config.toml": "# Keelson has the handler runtimes.test-handler\n",
      // Nothing listens there, not even in a pod, so a query fails at once. The containers of the Summary API specs
      // resolve a name in a loop, and would otherwise wait ten seconds each time without using CPU.
      "resolv.conf": "nameserver 127.0.0.1\n",
    },
  });
  const config = join(work, "kubelet-base.json");
  await writeFile(config, JSON.stringify(kubeletConfiguration));
  return {
    enter: node.enter,
    flags: [
      `--k8s-bin-dir=${programs}`,
      `--kubelet-config-file=${config}`,
      `--container-runtime-endpoint=unix://${node.daemon.socket}`,
      "--feature-gates=PodAndContainerStatsFromCRI=true",
      "--node-name=node-1",
      "--prepull-images=false",
      `--report-dir=${work}`,
      `--kubelet-flags=--runtime-cgroups=${node.daemonCgroup}`,
    ],
    stop: async () => {
      await node.stop();
      await registry.stop();
    },
  };
}

/** Kubernetes' test/e2e_node/jenkins/default-kubelet-config.yaml, plus settings for this machine. */
const kubeletConfiguration = {
  apiVersion: "kubelet.config.k8s.io/v1beta1",
  kind: "KubeletConfiguration",
  cgroupDriver: "cgroupfs",
  cgroupRoot: "/",
  podCIDR: podCidr,
  volumeStatsAggPeriod: "10s",
  fileCheckFrequency: "10s",
  evictionPressureTransitionPeriod: "30s",
  evictionHard: { "memory.available": "250Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%" },
  evictionMinimumReclaim: { "nodefs.available": "5%", "nodefs.inodesFree": "5%" },
  serializeImagePulls: false,
  // The development machines have hybrid cgroup hierarchies.
  failCgroupV1: false,
};
