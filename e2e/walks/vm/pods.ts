// Pods and containers of one busybox image, created with crictl in a guest.

import type { Crictl } from "../crictl/crictl.ts";
import { write } from "./keelson.ts";
import type { Machine } from "./machine.ts";

export const busybox = "vm.test/busybox:1";
/** On a tmpfs, so that there is room when the disk is full. */
const configs = "/run/agent";

/** Runs until SIGTERM, and then exits with 7. */
export const idle = "trap 'exit 7' TERM; while :; do sleep 1; done";

export interface Pod {
  readonly id: string;
  readonly name: string;
  readonly logs: string;
  /** The pod's configuration file, which crictl needs again for each container. */
  readonly file: string;
}

/** The kubelet's default: each container has its own PID namespace. */
const security_context = { namespace_options: { pid: 1 } };

/** `linux` is the `linux` field of the sandbox configuration. */
export async function runPod(machine: Machine, crictl: Crictl, name: string, linux: object = {}): Promise<Pod> {
  const [file, logs] = [`${configs}/${name}.pod.json`, `/var/log/pods/${name}`];
  const metadata = { name, namespace: "vm", uid: `${name}-uid`, attempt: 0 };
  await write(
    machine,
    file,
    JSON.stringify({ metadata, hostname: name, log_directory: logs, linux: { security_context, ...linux } }),
  );
  await machine.run(`mkdir -p ${logs}`);
  return { id: await crictl.run("runp", file), name, logs, file };
}

export interface ContainerParts {
  readonly name: string;
  readonly script: string;
  readonly linux?: object;
  readonly image?: string;
  readonly mounts?: readonly object[];
}

/** Creates and starts a container that runs a shell script; returns its ID. */
export async function runContainer(machine: Machine, crictl: Crictl, pod: Pod, parts: ContainerParts): Promise<string> {
  const id = await createContainer(machine, crictl, pod, parts);
  await crictl.run("start", id);
  return id;
}

export async function createContainer(
  machine: Machine,
  crictl: Crictl,
  pod: Pod,
  { name, script, linux = {}, image = busybox, mounts = [] }: ContainerParts,
): Promise<string> {
  const file = `${configs}/${pod.name}.${name}.json`;
  const config = {
    metadata: { name, attempt: 0 },
    image: { image },
    command: ["sh", "-c", script],
    log_path: `${name}.log`,
    mounts,
    linux: { security_context, ...linux },
  };
  await write(machine, file, JSON.stringify(config));
  return await crictl.run("create", pod.id, file, pod.file);
}
