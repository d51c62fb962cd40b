// Where pods lie by driver and parent, what is refused, and where monitors are put.

import { expect, test } from "vitest";
import { podCgroup } from "./cgroup-driver.ts";
import { newSandboxId } from "./ids.ts";
import { sandboxConfig } from "./testing/configs.ts";

const id = newSandboxId();
const at = (cgroupDriver: "cgroupfs" | "systemd", cgroupParent: string) =>
  podCgroup({ cgroupDriver, cgroupRoot: "/keelson" }, id, { ...sandboxConfig("web"), cgroupParent });

test("a kubelet's parent is the pod's cgroup, or the slice of its scope", () => {
  expect(at("cgroupfs", "/kubepods/pod1")).toBe("/kubepods/pod1");
  const slice = "/kubepods.slice/kubepods-pod1.slice";
  expect(at("systemd", slice)).toBe(`${slice}/keelson-${id}.scope`);
  expect(at("systemd", "kubepods-pod1.slice")).toBe(`${slice}/keelson-${id}.scope`);
});

test("a pod without a parent goes below cgroup.root", () => {
  expect(at("cgroupfs", "")).toBe(`/keelson/${id}`);
  expect(at("systemd", "")).toBe(`/keelson.slice/keelson-${id}.scope`);
});

test("a parent in the other driver's form is refused", () => {
  for (const [driver, parent, wanted] of [
    ["systemd", "/kubepods/pod1", "a slice, such as kubepods-besteffort.slice"],
    ["systemd", "/kubepods-pod1.slice", "a slice"],
    ["cgroupfs", "kubepods-pod1.slice", "an absolute path"],
    ["cgroupfs", "/kubepods.slice/kubepods-pod1.slice", "and no slice"],
  ] as const) {
    expect(() => at(driver, parent)).toThrow(
      expect.objectContaining({ code: "InvalidArgument", message: expect.stringContaining(wanted) }),
    );
  }
});
