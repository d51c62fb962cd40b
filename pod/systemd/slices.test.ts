// Slices by name and by cgroup, in the forms that kubelets and crictl use.

import { expect, test } from "vitest";
import { sliceCgroup, sliceOfCgroup, sliceOfParent, slicesAround } from "./slices.ts";

const pod = "kubepods-burstable-pod1f2e_3d.slice";
const podCgroup = `/kubepods.slice/kubepods-burstable.slice/${pod}`;

test("a slice is inside the slices that its name starts with", () => {
  expect(sliceCgroup("system.slice")).toBe("/system.slice");
  expect(sliceCgroup(pod)).toBe(podCgroup);
  expect(sliceCgroup("-.slice")).toBe("");
  expect(slicesAround(pod)).toEqual(["kubepods.slice", "kubepods-burstable.slice", pod]);
  expect(slicesAround("-.slice")).toEqual([]);
});

test.each([
  ".slice",
  "a",
  "a.scope",
  "-a.slice",
  "a-.slice",
  "a--b.slice",
  "a/b.slice",
  "a b.slice",
  `${"a".repeat(250)}.slice`,
])("%s is not a slice", (name) => expect(sliceCgroup(name)).toBeUndefined());

test("a parent is a slice's name or its full cgroup", () => {
  expect(sliceOfParent(pod)).toBe(pod);
  expect(sliceOfParent(podCgroup)).toBe(pod);
  expect(sliceOfParent(podCgroup.slice(1))).toBe(pod);
  expect(sliceOfParent("-.slice")).toBe("-.slice");
  expect(sliceOfParent(`/kubepods.slice/${pod}`)).toBeUndefined();
  expect(sliceOfParent(`/${pod}`)).toBeUndefined();
  expect(sliceOfParent("/kubepods/burstable/pod1")).toBeUndefined();
});

test("a cgroup's slice is named after the cgroup's path", () => {
  expect(sliceOfCgroup("/keelson")).toBe("keelson.slice");
  expect(sliceOfCgroup("/keelson/test")).toBe("keelson-test.slice");
  expect(sliceOfCgroup("/")).toBeUndefined();
  expect(sliceOfCgroup("/a-/b")).toBeUndefined();
});
