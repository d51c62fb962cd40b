// Every resource limit in CRI, read back from cgroup v2 files at creation and after an update, and its effect.

import assert from "node:assert/strict";
import { until } from "../../fixtures/steps.ts";
import { at } from "../crictl/crictl.ts";
import { crictlOf, log } from "./keelson.ts";
import type { Machine } from "./machine.ts";
import { createContainer, runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

const MiB = 1024 * 1024;
const idle = "trap 'exit 0' TERM; while :; do sleep 1; done";

const resources = {
  cpu_period: 50_000,
  cpu_quota: 25_000,
  cpu_shares: 512,
  memory_limit_in_bytes: 64 * MiB,
  memory_swap_limit_in_bytes: 96 * MiB,
  cpuset_cpus: "1",
  cpuset_mems: "0",
  hugepage_limits: [{ page_size: "2MB", limit: 4 * MiB }],
  unified: {
    "memory.high": String(48 * MiB),
    "memory.low": String(8 * MiB),
    "memory.oom.group": "1",
    "pids.max": "77",
    "cpu.max.burst": "10000",
  },
  oom_score_adj: -500,
};

/**
 * The expected files. 512 shares are weight 59 with the formula of runc 1.3.2 and crun 1.23; CRI's swap includes
 * memory.
 */
const files: Readonly<Record<string, string>> = {
  "cpu.max": "25000 50000",
  "cpu.max.burst": "10000",
  "cpu.weight": "59",
  "cpuset.cpus": "1",
  "cpuset.cpus.effective": "1",
  "cpuset.mems": "0",
  "memory.max": String(64 * MiB),
  "memory.swap.max": String(32 * MiB),
  "memory.high": String(48 * MiB),
  "memory.low": String(8 * MiB),
  "memory.oom.group": "1",
  "pids.max": "77",
  "hugetlb.2MB.max": String(4 * MiB),
  "cgroup.freeze": "0",
};

export async function limits({ machine, crictl, driver, step, print }: Scene): Promise<void> {
  const pod = await runPod(machine, crictl, "limits");
  const id = await step("a container with every limit starts", () =>
    runContainer(machine, crictl, pod, { name: "all", script: idle, linux: { resources } }),
  );
  const cgroup = await cgroupOf(machine, id);
  print(cgroup);
  for (const [file, wanted] of Object.entries(files)) {
    await step(`${file}: ${wanted}`, async () => assert.equal(await machine.run(`cat ${cgroup}/${file}`), wanted));
  }
  await step("oom_score_adj: -500", async () => {
    assert.equal(await machine.run(`cat /proc/${await pidOf(machine, id)}/oom_score_adj`), "-500");
  });
  await step("its own /sys/fs/cgroup is its cgroup, read-only", async () => {
    assert.equal(await crictl.run("exec", "-s", id, "cat", "/sys/fs/cgroup/memory.max"), String(64 * MiB));
    const { code, stderr } = await crictl.attempt("exec", "-s", id, "sh", "-c", "echo max >/sys/fs/cgroup/memory.max");
    assert.notEqual(code, 0);
    assert.match(stderr, /Read-only/);
  });
  await step("an update changes only the limits that it sets", async () => {
    await crictl.run("update", "--memory", String(80 * MiB), "--cpu-share", "1024", id);
    // memory.swap.max stays too, as with runc and crun, although CRI's swap limit includes memory.
    for (const [file, wanted] of Object.entries({ ...files, "memory.max": String(80 * MiB), "cpu.weight": "100" }))
      assert.equal(await machine.run(`cat ${cgroup}/${file}`), wanted, file);
  });
  await step("status reports the limits", async () => {
    const linux = at(await crictl.json("inspect", id), "status", "resources", "linux");
    assert.equal(Number(at(linux, "memoryLimitInBytes")), 80 * MiB, JSON.stringify(linux));
    assert.equal(Number(at(linux, "cpuQuota")), 25_000);
    assert.equal(at(linux, "unified", "memory.high"), String(48 * MiB));
  });
  await step("stats have PSI: CPU, memory and IO, some and full", async () => {
    const stats = at(await crictl.json("stats", "--output", "json", id), "stats", 0);
    for (const part of ["cpu", "memory", "io"]) {
      const psi = at(stats, part, "psi");
      assert(
        at(psi, "Some") !== undefined && at(psi, "Full") !== undefined,
        `${part}: ${JSON.stringify(at(stats, part))}`,
      );
    }
    assert(at(stats, "swap") !== undefined, "swap");
  });
  await step("a container that was frozen from outside can still be stopped", async () => {
    await machine.run(`echo 1 >${cgroup}/cgroup.freeze`);
    await crictl.run("stop", "--timeout", "2", id);
    assert.equal(at(await crictl.json("inspect", id), "status", "state"), "CONTAINER_EXITED");
  });
  await step("an OOM with memory.oom.group kills the whole container, and the status reports it", async () => {
    const script = "sleep 1000 & while :; do x=$x$x$(head -c 1000000 /dev/zero | tr '\\0' x); done";
    const linux = { resources: { memory_limit_in_bytes: 24 * MiB, unified: { "memory.oom.group": "1" } } };
    const hungry = await runContainer(machine, crictl, pod, { name: "hungry", script, linux });
    const status = await exited(machine, hungry);
    assert.equal(at(status, "exitCode"), 137, JSON.stringify(status));
    assert.equal(at(status, "reason"), "OOMKilled");
  });
  await step(
    "an OOM kill of one process is reported while the container runs, and uses no inotify instance",
    async () => {
      const script = `tail -c 100m /dev/zero; ${idle}`;
      const linux = { resources: { memory_limit_in_bytes: 24 * MiB } };
      const alive = await runContainer(machine, crictl, pod, { name: "alive", script, linux });
      const told = `container ${alive}: the OOM killer killed one of its processes`;
      await until(
        "the daemon reports the OOM kill",
        60_000,
        async () => (await log(machine)).includes(told) || undefined,
      );
      assert.equal(at(await crictl.json("inspect", alive), "status", "state"), "CONTAINER_RUNNING");
      const monitors = `for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -q 'keelson-monitor run' && ls -l $p/fd; done`;
      assert.equal(await machine.run(`{ ${monitors}; } 2>/dev/null | grep -c inotify || true`), "0");
    },
  );
  await step("a limit that cgroup v2 rejects is an error that names the file", async () => {
    const linux = { resources: { unified: { "memory.high": "lots" } } };
    const refused = await createContainer(machine, crictl, pod, { name: "refused", script: idle, linux }).then(
      (created) => crictl.attempt("start", created),
      (error: unknown) => ({ code: 1, stdout: "", stderr: String(error) }),
    );
    print(refused.stderr.split("\n")[0]?.slice(0, 300) ?? "");
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /memory\.high/);
  });
  await step("a unified value with one line per disk is applied", async () => {
    const disks = (await machine.run("cat /sys/block/*/dev")).split("\n").slice(0, 2);
    const linux = { resources: { unified: { "io.max": disks.map((disk) => `${disk} rbps=104857600`).join("\n") } } };
    const limited = await runContainer(machine, crictl, pod, { name: "disks", script: idle, linux });
    const told = await machine.run(`cat ${await cgroupOf(machine, limited)}/io.max`);
    assert.deepEqual(
      told
        .split("\n")
        .map((line) => line.split(" ").slice(0, 2).join(" "))
        .sort(),
      disks.map((disk) => `${disk} rbps=104857600`).sort(),
    );
  });
  await step("an update that cgroup v2 rejects in part takes no CPU away", async () => {
    const free = await runContainer(machine, crictl, pod, { name: "free", script: idle });
    const refused = await crictl.attempt("update", "--cpuset-cpus", "0", "--cpuset-mems", "9", free);
    print(refused.stderr.split("\n")[0]?.slice(0, 300) ?? "");
    assert.notEqual(refused.code, 0);
    const [own, all] = [await cgroupOf(machine, free), "/sys/fs/cgroup"];
    const effective = await machine.run(`cat ${own}/cpuset.cpus.effective ${all}/cpuset.cpus.effective`);
    assert.deepEqual(effective.split("\n"), ["0-1", "0-1"]);
  });
  await step(
    "a pod with a cgroup parent: its containers are below the parent, and its stats include them",
    async () => {
      const [cgroup_parent, below] =
        driver === "systemd"
          ? ["kubepods-burstable-deep.slice", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-deep.slice"]
          : ["/kubepods/burstable/deep", "/kubepods/burstable/deep"];
      const deep = await runPod(machine, crictl, "deep", { cgroup_parent });
      const inner = await runContainer(machine, crictl, deep, { name: "inner", script: idle });
      const found = await cgroupOf(machine, inner);
      assert(found.startsWith(`/sys/fs/cgroup${below}/`), found);
      const stats = at(await crictl.json("statsp", "--output", "json", deep.id), "stats", 0, "linux");
      assert(Number(at(stats, "memory", "workingSetBytes", "value")) > 0, JSON.stringify(stats));
      assert(Number(at(stats, "process", "processCount", "value")) > 0, JSON.stringify(stats));
      await crictl.run("stopp", deep.id);
      await crictl.run("rmp", deep.id);
      assert.equal(await machine.run(`test -e ${found} && echo there || true`), "");
    },
  );
  await step("the pod is removed, with its cgroups", async () => {
    await crictl.run("stopp", pod.id);
    await crictl.run("rmp", pod.id);
    assert.equal(await machine.run(`test -e ${cgroup} && echo there || true`), "");
  });
}

async function pidOf(machine: Machine, id: string): Promise<number> {
  return Number(at(await crictlOf(machine).json("inspect", id), "info", "pid"));
}

/** The container's cgroup directory. */
async function cgroupOf(machine: Machine, id: string): Promise<string> {
  return `/sys/fs/cgroup${await machine.run(`sed -n 's/^0:://p' /proc/${await pidOf(machine, id)}/cgroup`)}`;
}

async function exited(machine: Machine, id: string) {
  return await until("the container exits", 60_000, async () => {
    const status = at(await crictlOf(machine).json("inspect", id), "status");
    return at(status, "state") === "CONTAINER_EXITED" ? status : undefined;
  });
}
