// What asks for SELinux labels, on a host where SELinux is active and on one where it is not. (Here it is not.)

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Mount } from "../types.ts";
import { refuseRelabelling, refuseSelinuxOptions } from "./selinux.ts";

let active: string;
beforeAll(async () => {
  active = await mkdtemp(join(tmpdir(), "keelson-selinux-"));
  await writeFile(join(active, "enforce"), "0");
});
afterAll(() => rm(active, { recursive: true }));

const mount = (selinuxRelabel: boolean): Mount => ({
  containerPath: "/data",
  hostPath: "/srv/data",
  readonly: false,
  selinuxRelabel,
  propagation: "private",
  uidMappings: [],
  gidMappings: [],
  recursiveReadOnly: false,
  imageSubPath: "",
  mountOptions: [],
});

const level = { user: "", role: "", type: "", level: "s0:c1,c2" };

test("where SELinux is active, options are refused with the label they spell; empty ones ask for nothing", async () => {
  await expect(refuseSelinuxOptions("pod web", { selinux: level, privileged: false }, active)).rejects.toThrow(
    "label :::s0:c1,c2 was asked for pod web",
  );
  await refuseSelinuxOptions("pod web", { selinux: { ...level, level: "" }, privileged: false }, active);
  await refuseSelinuxOptions("pod web", { privileged: false }, active);
});

test("where it is not, options have nothing to confine by, as with every other runtime", async () => {
  await refuseSelinuxOptions("pod web", { selinux: level, privileged: false }, join(active, "missing"));
});

test("a privileged container is not confined, whatever its options", async () => {
  const selinux = { user: "", role: "", type: "spc_t", level: "" };
  await refuseSelinuxOptions("container main", { selinux, privileged: true }, active);
});

test("relabelling is refused by name where SELinux is active; elsewhere there is nothing to relabel", async () => {
  await expect(refuseRelabelling([mount(false), mount(true)], active)).rejects.toMatchObject({
    code: "FailedPrecondition",
    message: expect.stringContaining("The mount of /srv/data at /data is to be relabelled"),
  });
  await refuseRelabelling([mount(false)], active);
  await refuseRelabelling([mount(true)], join(active, "missing"));
});
