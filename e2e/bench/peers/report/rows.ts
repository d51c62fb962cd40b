// The rows of the table, in order: the measurement, its unit, and its floors.

import type { Samples, ServerName } from "./samples.ts";

interface RowShape {
  readonly key: string;
  readonly title: string;
  readonly unit: "ms" | "CPU ms" | "s" | "CPU s" | "MB" | "MB/s" | "ms/s";
  /** The servers in the columns; the three with the reference plugins when absent. */
  readonly columns?: Columns;
  readonly floors?: readonly { readonly name: string; readonly key: FloorKey }[];
}

/** In the order of the table. An absent peer's column stays empty. */
export interface Columns {
  readonly containerd?: ServerName;
  readonly "cri-o"?: ServerName;
  readonly keelson: ServerName;
}

/** Measured without any server. */
export type FloorKey =
  | "cni-add"
  | "cni-add-cpu"
  | "cni-del"
  | "cni-del-cpu"
  | "own-add"
  | "own-add-cpu"
  | "own-del"
  | "own-del-cpu"
  | "cni-burst"
  | "cni-burst-cpu"
  | "own-burst"
  | "own-burst-cpu"
  | "crun-start"
  | "crun-start-cpu"
  | "crun-exec"
  | "crun-exec-cpu"
  | "kernel-start"
  | "kernel-start-cpu"
  | "kernel-exec"
  | "kernel-exec-cpu"
  | "flush"
  | "flush-cpu"
  | "files"
  | "files-cpu"
  | "grpc"
  | "grpc-cpu"
  | "grpc-pss"
  | "grpc-start"
  | "kernel-container-stats"
  | "kernel-pod-stats"
  | SameAnswer;

/**
 * Calls that the gRPC floor answers with the bytes of Keelson's response; its samples have the key of the server's row.
 */
export type SameAnswer =
  | "create"
  | "start"
  | "pod-start"
  | "pod-start-cpu"
  | "exec"
  | "exec-cpu"
  | "stop"
  | "container-stats"
  | "pod-stats"
  | "containers"
  | "pods"
  | "status"
  | "version";

export type RowKey = (typeof table)[number]["key"] | FloorKey;

const add = [{ name: "CNI ADD", key: "cni-add" }] as const;
const ownAdd = [{ name: "own ADD", key: "own-add" }] as const;
const ownDel = [{ name: "own DEL", key: "own-del" }] as const;
const ownPlugins: Columns = { containerd: "containerd", "cri-o": "cri-o", keelson: "keelson-own" };
const bothOnOwnPlugins: Columns = { "cri-o": "cri-o-own", keelson: "keelson-own" };
const grpc = [{ name: "gRPC alone", key: "grpc" }] as const;
const grpcStart = [{ name: "gRPC alone, started", key: "grpc-start" }] as const;
const sameAnswer = <Key extends SameAnswer>(key: Key) => ({ name: "gRPC alone", key }) as const;
const kernelExec = { name: "kernel", key: "kernel-exec" } as const;
const kernelExecCpu = { name: "kernel", key: "kernel-exec-cpu" } as const;
const del = [{ name: "CNI DEL", key: "cni-del" }] as const;

const table = [
  { key: "run", title: "RunPodSandbox", unit: "ms", floors: [...add, { name: "a flush to disk", key: "flush" }] },
  { key: "create", title: "CreateContainer", unit: "ms", floors: [sameAnswer("create")] },
  {
    key: "start",
    title: "StartContainer",
    unit: "ms",
    floors: [
      { name: "crun create + start", key: "crun-start" },
      { name: "kernel", key: "kernel-start" },
      sameAnswer("start"),
    ],
  },
  { key: "pod-start", title: "pod start in all", unit: "ms", floors: add },
  {
    key: "pod-start-cpu",
    title: "pod start in all",
    unit: "CPU ms",
    floors: [{ name: "CNI ADD", key: "cni-add-cpu" }],
  },
  {
    key: "share",
    title: "pod start less CNI ADD",
    unit: "ms",
    floors: [{ name: "crun", key: "crun-start" }, sameAnswer("pod-start")],
  },
  {
    key: "share-cpu",
    title: "pod start less CNI ADD",
    unit: "CPU ms",
    floors: [
      { name: "crun", key: "crun-start-cpu" },
      { name: "kernel", key: "kernel-start-cpu" },
      sameAnswer("pod-start-cpu"),
    ],
  },
  { key: "pod-start", title: "pod start, Keelson's own plugins", unit: "ms", columns: ownPlugins, floors: ownAdd },
  {
    key: "pod-start-cpu",
    title: "pod start, Keelson's own plugins",
    unit: "CPU ms",
    columns: ownPlugins,
    floors: [{ name: "own ADD", key: "own-add-cpu" }],
  },
  { key: "pod-start", title: "pod start, CRI-O on Keelson's plugins too", unit: "ms", columns: bothOnOwnPlugins },
  {
    key: "pod-start-cpu",
    title: "pod start, CRI-O on Keelson's plugins too",
    unit: "CPU ms",
    columns: bothOnOwnPlugins,
  },
  { key: "burst", title: "10 pods at once", unit: "ms", floors: [{ name: "10 CNI ADDs", key: "cni-burst" }] },
  {
    key: "burst-cpu",
    title: "10 pods at once",
    unit: "CPU ms",
    floors: [{ name: "10 CNI ADDs", key: "cni-burst-cpu" }],
  },
  {
    key: "burst",
    title: "10 pods at once, Keelson's own plugins",
    unit: "ms",
    columns: ownPlugins,
    floors: [{ name: "10 own ADDs", key: "own-burst" }],
  },
  {
    key: "burst-cpu",
    title: "10 pods at once, Keelson's own plugins",
    unit: "CPU ms",
    columns: ownPlugins,
    floors: [{ name: "10 own ADDs", key: "own-burst-cpu" }],
  },
  {
    key: "exec",
    title: "ExecSync true, pods coming and going",
    unit: "ms",
    floors: [{ name: "crun exec", key: "crun-exec" }, kernelExec, sameAnswer("exec")],
  },
  {
    key: "exec-cpu",
    title: "ExecSync true, pods coming and going",
    unit: "CPU ms",
    floors: [{ name: "crun exec", key: "crun-exec-cpu" }, kernelExecCpu, sameAnswer("exec-cpu")],
  },
  {
    key: "exec-rest",
    title: "ExecSync true, pods at rest",
    unit: "ms",
    floors: [...grpc, kernelExec],
  },
  {
    key: "exec-rest-cpu",
    title: "ExecSync true, pods at rest",
    unit: "CPU ms",
    floors: [{ name: "gRPC alone", key: "grpc-cpu" }, kernelExecCpu],
  },
  { key: "stop", title: "StopContainer, obeying TERM", unit: "ms", floors: [sameAnswer("stop")] },
  { key: "stop-pod", title: "StopPodSandbox", unit: "ms", floors: del },
  { key: "removal", title: "pod removal in all", unit: "ms", floors: del },
  {
    key: "removal-cpu",
    title: "pod removal in all",
    unit: "CPU ms",
    floors: [{ name: "CNI DEL", key: "cni-del-cpu" }],
  },
  { key: "removal", title: "pod removal, Keelson's own plugins", unit: "ms", columns: ownPlugins, floors: ownDel },
  {
    key: "removal-cpu",
    title: "pod removal, Keelson's own plugins",
    unit: "CPU ms",
    columns: ownPlugins,
    floors: [{ name: "own DEL", key: "own-del-cpu" }],
  },
  { key: "removal", title: "pod removal, CRI-O on Keelson's plugins too", unit: "ms", columns: bothOnOwnPlugins },
  {
    key: "container-stats",
    title: "ListContainerStats",
    unit: "ms",
    floors: [sameAnswer("container-stats"), { name: "kernel", key: "kernel-container-stats" }],
  },
  {
    key: "pod-stats",
    title: "ListPodSandboxStats",
    unit: "ms",
    floors: [sameAnswer("pod-stats"), { name: "kernel", key: "kernel-pod-stats" }],
  },
  { key: "containers", title: "ListContainers", unit: "ms", floors: [sameAnswer("containers")] },
  { key: "pods", title: "ListPodSandbox", unit: "ms", floors: [sameAnswer("pods")] },
  { key: "status", title: "ContainerStatus", unit: "ms", floors: [sameAnswer("status")] },
  { key: "version", title: "Version", unit: "ms", floors: [sameAnswer("version")] },
  { key: "busy", title: "ListContainers while pods start and a pull runs", unit: "ms" },
  { key: "daemon-pss", title: "PSS of the daemon", unit: "MB", floors: [{ name: "gRPC alone", key: "grpc-pss" }] },
  { key: "daemon-pss-rest", title: "PSS of the daemon, after more than a minute of nothing", unit: "MB" },
  { key: "helpers-pss", title: "PSS of monitors, shims, conmons", unit: "MB" },
  { key: "idle", title: "CPU while idle", unit: "ms/s" },
  { key: "pull", title: "pull of a large image", unit: "s", floors: [{ name: "its files written", key: "files" }] },
  {
    key: "pull-cpu",
    title: "pull of a large image",
    unit: "CPU s",
    floors: [{ name: "its files written", key: "files-cpu" }],
  },
  { key: "log", title: "200 MiB of log lines", unit: "MB/s" },
  { key: "log-cpu", title: "200 MiB of log lines", unit: "CPU ms" },
  { key: "recovery-few", title: "kill -9 to all listed, 20 pods", unit: "ms", floors: grpcStart },
  { key: "recovery-many", title: "kill -9 to all listed, all pods", unit: "ms", floors: grpcStart },
] as const satisfies readonly RowShape[];

export interface Row extends RowShape {
  readonly key: RowKey;
}

export const rows: readonly Row[] = table;

const withReferencePlugins: Columns = { containerd: "containerd", "cri-o": "cri-o", keelson: "keelson" };

export function columnsOf(row: Row): Columns {
  return row.columns ?? withReferencePlugins;
}

/** A row with its own columns is shown only if Keelson has samples. */
export function hasFigures(row: Row, samples: Samples): boolean {
  const { keelson } = columnsOf(row);
  const subjects: readonly ServerName[] = row.columns === undefined ? ["containerd", "cri-o", keelson] : [keelson];
  return subjects.some((subject) => samples.of(row.key, subject).length > 0);
}
