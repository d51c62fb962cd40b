// Cgroups of pods by driver and parent, refused parents, and the cgroups of monitors.

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { checkCgroupRoot, chooseCgroupDriver, isBootedBySystemd, podCgroup } from "./cgroup-driver.ts";
import { clearCgroup } from "./cgroups.ts";
import { newSandboxId } from "./ids.ts";
import type { Scope } from "./systemd/units.ts";
import { sandboxConfig } from "./testing/configs.ts";
import { never, runPod, useNode } from "./testing/node.ts";

const id = newSandboxId();
const at = (cgroupDriver: "cgroupfs" | "systemd", cgroupParent: string) =>
  podCgroup({ cgroupDriver, cgroupRoot: "/keelson" }, id, { ...sandboxConfig("web"), cgroupParent });

test("the kubelet's cgroup parent becomes the pod's cgroup, or the slice of its scope", () => {
  expect(at("cgroupfs", "/kubepods/pod1")).toBe("/kubepods/pod1");
  const slice = "/kubepods.slice/kubepods-pod1.slice";
  expect(at("systemd", slice)).toBe(`${slice}/keelson-${id}.scope`);
  expect(at("systemd", "kubepods-pod1.slice")).toBe(`${slice}/keelson-${id}.scope`);
});

test("a pod without a cgroup parent is placed below cgroup.root", () => {
  expect(at("cgroupfs", "")).toBe(`/keelson/${id}`);
  expect(at("systemd", "")).toBe(`/keelson.slice/keelson-${id}.scope`);
});

test("a parent in the other driver's form is refused", () => {
  for (const [driver, parent, wanted] of [
    ["systemd", "/kubepods/pod1", "a slice, such as kubepods-besteffort.slice"],
    ["systemd", "/kubepods-pod1.slice", "a slice"],
    ["cgroupfs", "kubepods-pod1.slice", "an absolute path"],
    ["cgroupfs", "kubepods/pod1", "an absolute path"],
    ["cgroupfs", "/kubepods.slice/kubepods-pod1.slice", "that is not a slice"],
  ] as const) {
    expect(() => at(driver, parent)).toThrow(
      expect.objectContaining({ code: "InvalidArgument", message: expect.stringContaining(wanted) }),
    );
  }
});

test("a cgroup.root that cannot be a slice is refused with the driver systemd", () => {
  for (const root of ["/", "/a b"])
    expect(() => checkCgroupRoot("systemd", root)).toThrow(`The key cgroup.root is ${root}, which is not the name of`);
  checkCgroupRoot("systemd", "/keelson/test");
  checkCgroupRoot("cgroupfs", "/");
});

test.skipIf(await isBootedBySystemd())("without systemd, its driver is refused, and auto means cgroupfs", async () => {
  await expect(chooseCgroupDriver("systemd", "/keelson")).rejects.toMatchObject({ name: "systemdMissing" });
  expect(await chooseCgroupDriver("auto", "/keelson")).toBe("cgroupfs");
});

describe("on a host with systemd", () => {
  const node = useNode();
  let asked: string[];
  let answer: (scope: Scope, pids: readonly number[]) => Promise<void>;
  beforeEach(() => {
    asked = [];
    answer = async () => undefined;
    const ask = (how: string) => async (scope: Scope, pids: readonly number[]) => {
      asked.push(`${how} ${scope.name} in ${scope.slice}`);
      await answer(scope, pids);
    };
    node().systemd = { startScope: ask("start"), joinScope: ask("join"), close: () => undefined };
  });

  test("a pod's monitor is moved into its own cgroup in the pod's scope", async () => {
    node().cgroupDriver = "systemd";
    const scopeDirectory = (name: string) => join(node().directory, "cgroup/keelson.slice", name);
    answer = async ({ name }) => void (await mkdir(scopeDirectory(name), { recursive: true }));
    const id = await runPod(await node().start());
    expect(asked).toEqual([`start keelson-${id}.scope in keelson.slice`]);
    const procs = join(scopeDirectory(`keelson-${id}.scope`), "monitor/cgroup.procs");
    expect(await readFile(procs, "utf8")).toBe(String(node().monitor(id).pid));
    const written = JSON.parse(await readFile(join(node().podDirectory(id), "sandbox.json"), "utf8"));
    expect(written).toMatchObject({ cgroup: "", own_cgroup: false, scope: `/keelson.slice/keelson-${id}.scope` });
    await (await node().restart()).tidy();
    expect(asked, "the next daemon leaves it there").toHaveLength(1);
  });

  test("a pod's statistics are those of the kubelet's slice, which has its limits, and not of the scope in it", async () => {
    node().cgroupDriver = "systemd";
    const cgroup = async (path: string, limit: string) => {
      const directory = join(node().directory, "cgroup", path);
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, "memory.current"), "1000\n");
      await writeFile(join(directory, "memory.max"), `${limit}\n`);
    };
    answer = async ({ name }) => await cgroup(`kubepods.slice/kubepods-p.slice/${name}`, "max");
    const pods = await node().start();
    const config = { ...sandboxConfig("p"), cgroupParent: "/kubepods.slice/kubepods-p.slice" };
    const id = await pods.runSandbox(config, "", never);
    await cgroup("kubepods.slice/kubepods-p.slice", "5000");
    expect(await pods.sandboxStats(id)).toMatchObject({ memory: { usageBytes: 1000n, availableBytes: 4000n } });
  });

  test("the init of the pod's own PID namespace is moved with the monitor", async () => {
    let moved: readonly number[] = [];
    answer = async (_, pids) => {
      moved = pids;
    };
    node().initPid = 2 ** 30 + 1;
    const id = await runPod(await node().start());
    await expect.poll(() => moved).toEqual([node().monitor(id).pid, 2 ** 30 + 1]);
  });

  test("clearing a scope leaves the directory that systemd watches for systemd to remove", async () => {
    const v2 = join(node().directory, "cgroup");
    const v1 = join(node().directory, "cpuset");
    const tree = { unified: false, v2, v1: new Map([["cpuset", v1]]) };
    for (const root of [v2, v1]) await mkdir(join(root, "a.scope/monitor"), { recursive: true });
    await clearCgroup(tree, "/a.scope", 1_000, true);
    expect([await readdir(v2, { recursive: true }), await readdir(v1)]).toEqual([["a.scope"], []]);
  });

  test("a scope that does not start fails the pod, and nothing is left", async () => {
    node().cgroupDriver = "systemd";
    answer = () => Promise.reject(new Error("no systemd any more"));
    const pods = await node().start();
    await expect(runPod(pods)).rejects.toThrow("no systemd any more");
    expect(await node().podDirectories()).toEqual([]);
    expect(await node().records()).toEqual([]);
  });

  test("without pod scopes, monitors share one scope; at start the daemon moves stray monitors there", async () => {
    const id = await runPod(await node().start());
    await expect.poll(() => asked).toEqual(["join keelson-monitors.scope in keelson.slice"]);
    answer = () => Promise.reject(new Error("no bus"));
    const next = await node().restart();
    await next.tidy();
    await expect.poll(() => asked).toHaveLength(2);
    await expect.poll(() => node().log.join("\n")).toContain(`${id}: its monitor stays in the daemon's own unit`);
    expect(next.sandboxes({ labels: new Map() })).toMatchObject([{ id, state: "ready" }]);
  });
});
