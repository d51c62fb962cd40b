// Pods and containers of one busybox image, by crictl in a guest.

import type { Crictl } from "../crictl/crictl.ts";
import { write } from "./keelson.ts";
import type { Machine } from "./machine.ts";

export const busybox = "vm.test/busybox:1";
/** In memory: there is room for them when the disk is full. */
const configs = "/run/agent";

/** Runs until it is told to end, and ends with 7. */
export const idle = "trap 'exit 7' TERM; while :; do sleep 1; done";

export interface Pod {
  readonly id: string;
  readonly name: string;
  readonly logs: string;
  /** The file of its configuration, which crictl wants again. */
  readonly file: string;
}

/** As a kubelet asks: processes of the pod's containers do not see each other. */
const security_context = { namespace_options: { pid: 1 } };

/** `linux` is the sandbox's part of that name. */
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

/** Creates and starts a container of shell lines; its id. */
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
