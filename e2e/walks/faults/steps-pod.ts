// The steps of RunPodSandbox in pod/sandbox-start.ts and cni/network.ts, with the faults for each.

import { setTimeout as delay } from "node:timers/promises";
import { absent, catchChild, dead, full, type Lift, readOnlyCgroups, stopped } from "../../fixtures/hindrances.ts";
import { placesOf } from "../../fixtures/host-view.ts";
import type { PluginType } from "../../fixtures/wild-plugin.ts";
import type { StepCase, Target } from "./scene.ts";

const operation = "RunPodSandbox";
const pods = ({ scene }: Target) => placesOf(scene.node.directory).pods;
const leases = ({ scene }: Target) => placesOf(scene.node.directory).networkLeases;
const records = ({ scene }: Target) => placesOf(scene.node.directory).records;

/** Makes a plugin's ADD fail or hang; its DEL works. */
function plugin(type: PluginType, kind: "fail" | "hang"): StepCase {
  return {
    operation,
    step: `network: ${type} ADD`,
    kind,
    inject: async ({ scene }) => {
      const [failPercent, hangPercent] = kind === "fail" ? [100, 0] : [0, 100];
      await scene.plugins.be({ type, command: "ADD", failPercent, hangPercent });
      return () => scene.plugins.be("calm");
    },
  };
}

/** The next monitor to be spawned gets a signal while it starts. */
function monitor(signal: "SIGSTOP" | "SIGKILL"): (target: Target) => Promise<Lift> {
  return async (target) => {
    const { caught, giveUp } = await catchChild(
      target.scene.node.daemon.pid,
      `keelson-monitor run ${pods(target)}/`,
      signal,
    );
    return async () => {
      giveUp();
      const pid = await caught;
      if (signal === "SIGSTOP") await stopped(pid)();
    };
  };
}

/** The last record of a start: the file system fails while the plugins run. */
function lastRecord(kind: "fail" | "hang"): StepCase {
  return {
    operation,
    step: "record: ready",
    kind,
    inject: async (target) => {
      const { plugins } = target.scene;
      await plugins.be({ type: "portmap", command: "ADD", failPercent: 0, hangPercent: 100 });
      const hidden = delay(800).then(async () => {
        const lift = await (kind === "fail" ? full : dead)(records(target));
        await plugins.be("calm");
        return lift;
      });
      hidden.catch(() => undefined);
      return async () => await (await hidden)();
    },
  };
}

export const podSteps: readonly StepCase[] = [
  {
    operation,
    step: "files: the pod directory",
    kind: "fail",
    inject: (target) => full(pods(target)),
    hidesOthers: true,
  },
  {
    operation,
    step: "files: the pod directory",
    kind: "hang",
    inject: (target) => dead(pods(target)),
    hidesOthers: true,
  },
  { operation, step: "monitor: it dies during its start", kind: "fail", inject: monitor("SIGKILL") },
  { operation, step: "monitor: it is stopped during its start", kind: "hang", inject: monitor("SIGSTOP") },
  {
    operation,
    step: "monitor: the pod's cgroup",
    kind: "fail",
    inject: ({ scene }) => readOnlyCgroups(placesOf(scene.node.directory).cgroup),
    hidesOthers: true,
  },
  {
    operation,
    step: "network: its configuration",
    kind: "fail",
    inject: async ({ scene }) => {
      const lift = await absent(scene.node.daemon.networkFile);
      // The directory is watched.
      await delay(500);
      return async () => {
        await lift();
        await delay(500);
      };
    },
  },
  { operation, step: "network: the lease before ADD", kind: "fail", inject: (target) => full(leases(target)) },
  { operation, step: "network: the lease before ADD", kind: "hang", inject: (target) => dead(leases(target)) },
  plugin("bridge", "fail"),
  plugin("bridge", "hang"),
  plugin("host-local", "fail"),
  plugin("host-local", "hang"),
  plugin("portmap", "fail"),
  plugin("portmap", "hang"),
  { operation, step: "record: starting", kind: "fail", inject: (target) => full(records(target)) },
  { operation, step: "record: starting", kind: "hang", inject: (target) => dead(records(target)) },
  lastRecord("fail"),
  lastRecord("hang"),
];
