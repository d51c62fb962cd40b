// The systemd cgroup driver: a pod is a delegated scope, which survives reloads of systemd and restarts of the bus and
// of Keelson, and is removed with the pod. With either driver, no monitor is in the daemon's own unit.

import assert from "node:assert/strict";
import { until } from "../../fixtures/steps.ts";
import { start, write } from "./keelson.ts";
import type { Machine } from "./machine.ts";
import { runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

const dropIn = "/etc/keelson/config.toml.d/driver.toml";

/** Switches the driver, whichever one the guest started with. */
async function useDriver(machine: Machine, driver: "cgroupfs" | "systemd"): Promise<void> {
  await machine.run("mkdir -p /etc/keelson/config.toml.d");
  await write(machine, dropIn, `[cgroup]\ndriver = "${driver}"\n`);
  await restart(machine);
}

async function restart(machine: Machine): Promise<void> {
  await machine.run("systemctl restart keelson");
  await start(machine);
}

export async function systemdDriver({ machine, crictl, step }: Scene): Promise<void> {
  await useDriver(machine, "systemd");
  const slice = "kubepods-burstable-podab_cd.slice";
  const cgroup = `/kubepods.slice/kubepods-burstable.slice/${slice}`;
  const pod = await step("a pod in a kubelet's slice", () =>
    runPod(machine, crictl, "scoped", { cgroup_parent: cgroup }),
  );
  const scope = `keelson-${pod.id}.scope`;
  const linux = { resources: { memory_limit_in_bytes: 64 << 20, unified: { "pids.max": "77" } } };
  const container = await step("and a container in it", () =>
    runContainer(machine, crictl, pod, { name: "main", script: "while :; do sleep 1; done", linux }),
  );
  const state = async () =>
    await machine.run(`cd /sys/fs/cgroup${cgroup}/${scope}
      cat cgroup.subtree_control ${container}/memory.max ${container}/pids.max
      for pid in $(cat monitor/cgroup.procs); do cat /proc/$pid/comm; done
      /cargo/bin/crictl exec ${container} sh -c 'head -c 3 /dev/zero | wc -c; [ -e /tmp/kmsg ] || mknod /tmp/kmsg c 1 11; cat /tmp/kmsg 2>&1' 2>&1 | grep -v level=`);
  const before = await state();
  await step("its scope is delegated, and has no limit of its own", async () => {
    const properties = await machine.run(`systemctl show ${scope} -p Slice,Delegate,TasksMax,ActiveState`);
    assert.deepEqual(properties.split("\n").sort(), [
      "ActiveState=active",
      "Delegate=yes",
      `Slice=${slice}`,
      "TasksMax=infinity",
    ]);
    assert.match(before, /^cpuset cpu io memory hugetlb pids\n67108864\n77\nkeelson-monitor\n3\n.*not permitted$/);
  });
  for (const [what, script] of [
    ["systemctl daemon-reload", "systemctl daemon-reload"],
    ["systemctl daemon-reexec", "systemctl daemon-reexec"],
    ["a limit set on its slice", `systemctl set-property --runtime ${slice} MemoryMax=500M && systemctl daemon-reload`],
  ] as const) {
    await step(`${what}: limits, controllers and devices are unchanged`, async () => {
      await machine.run(script);
      assert.equal(await state(), before);
    });
  }
  await step("keelson.service is restarted, and killed", async () => {
    await restart(machine);
    await machine.run("kill -9 $(systemctl show keelson -p MainPID --value)");
    await start(machine);
    assert.equal(await state(), before);
    assert.equal(await machine.run("wc -l </sys/fs/cgroup/system.slice/keelson.service/cgroup.procs"), "1");
  });
  for (const script of ["systemctl restart dbus", "systemctl daemon-reexec"]) {
    await step(`a pod starts during ${script}`, async () => {
      const restarting = machine.run(script);
      const other = await runPod(machine, crictl, "beside", { cgroup_parent: cgroup });
      await restarting;
      await crictl.run("rmp", "--force", other.id);
    });
  }
  await step("an administrator stops a scope: the pod is not ready, and can be removed", async () => {
    const stopped = await runPod(machine, crictl, "stopped", { cgroup_parent: slice });
    await machine.run(`systemctl stop keelson-${stopped.id}.scope`);
    assert.equal(await crictl.run("pods", "--quiet", "--state", "ready", "--id", stopped.id), "");
    await crictl.run("rmp", "--force", stopped.id);
  });
  await step("a cgroup parent in the other driver's format is rejected", async () => {
    await assert.rejects(
      runPod(machine, crictl, "wrong", { cgroup_parent: "/kubepods/pod1" }),
      /The cgroup parent \/kubepods\/pod1 of pod wrong cannot be used: the cgroup driver systemd requires a slice/,
    );
  });
  await step("no unit is left behind", async () => {
    await crictl.run("rmp", "--force", pod.id);
    assert.equal(await machine.run("systemctl list-units --all --plain --no-legend 'keelson-*.scope'"), "");
    assert.equal(await machine.run("find /sys/fs/cgroup /run/systemd/transient -name 'keelson-*.scope'"), "");
    // Nor any of the slices, which no kubelet created.
    await until("no slice", 10_000, async () => {
      const slices = await machine.run("find /sys/fs/cgroup /run/systemd/transient -name 'kubepods*'");
      return slices === "" || undefined;
    });
  });
  await step("with cgroupfs, the monitors are in their own scope", async () => {
    await useDriver(machine, "cgroupfs");
    const plain = await runPod(machine, crictl, "plain");
    const monitor = await machine.run("pgrep --full 'keelson-monitor run'");
    assert.equal(await machine.run(`cat /proc/${monitor}/cgroup`), "0::/keelson.slice/keelson-monitors.scope");
    await crictl.run("rmp", "--force", plain.id);
    await machine.run(`rm ${dropIn}`);
    await restart(machine);
    assert.equal(await machine.run("systemctl list-units --all --plain --no-legend 'keelson-*.scope'"), "");
  });
}
