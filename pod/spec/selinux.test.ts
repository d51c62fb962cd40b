// SELinux labels: the host policy's labels, and what a pod can and cannot change in them.
// (This kernel has no SELinux: the policy is a file, and the kernel's label check a function.)

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerConfig, plainSecurity, podNamespaces, sandboxConfig } from "../testing/configs.ts";
import { named, containerPolicy as policy } from "../testing/selinux.ts";
import type { ContainerConfig, ContainerSecurity, SandboxConfig, SandboxSecurity, SelinuxOptions } from "../types.ts";
import { choosePodLabels, containerLabels, known, type PodLabels } from "./selinux.ts";
import { labelText, parseLabel, withOptions } from "./selinux-label.ts";
import { type ContainerPolicy, readSelinux, type Selinux, unfitLabel } from "./selinux-policy.ts";

const { process, file } = policy;
const withoutLevels: ContainerPolicy = {
  ...policy,
  process: { ...process, level: "" },
  file: { ...file, level: "" },
  hasCategories: false,
};
const off: Selinux = { kind: "off" };

const pod = (change: Partial<SandboxSecurity> = {}): SandboxConfig => {
  const config = sandboxConfig("web");
  return { ...config, security: { ...config.security, ...change } };
};
const container = (change: Partial<ContainerSecurity> = {}): ContainerConfig => ({
  ...containerConfig("main", "img", []),
  security: { ...plainSecurity, ...change },
});
/** Returns the given categories one after the other. */
const inTurn = (...numbers: number[]) => {
  const left = [...numbers];
  return () => left.shift() ?? 0;
};
const labels: PodLabels = {
  process: "system_u:system_r:container_t:s0:c1,c2",
  mount: "system_u:object_r:container_file_t:s0:c1,c2",
};

describe("a label", () => {
  test("is parsed and formatted with and without a level", () => {
    for (const text of ["system_u:system_r:container_t", labels.process, "u:r:t:s0-s15:c0.c1023"]) {
      const label = parseLabel(text);
      expect(label && labelText(label)).toBe(text);
    }
    for (const text of ["", "a:b", "a:b:c:", "a:b:c:s0:", "a:b:c:low", 'a:b:"c":s0', "a:b:c:s0:c1,", "a b:c:d:s0"])
      expect(parseLabel(text), text).toBeUndefined();
  });

  test("takes the parts that a pod requests", () => {
    expect(labelText(withOptions(process, named({ type: "spc_t" }), "pod web"))).toBe("system_u:system_r:spc_t:s0");
    for (const level of ["s0", "s0:c1,c2", "s0:c1.c1023", "s0-s0:c0.c1023", "s0:c1.c3,c7"])
      expect(withOptions(process, named({ level }), "pod web").level).toBe(level);
  });

  test("cannot be escaped from by a pod's options", () => {
    const attacks: Partial<SelinuxOptions>[] = [
      // Another mount option, or the closing quote of the label.
      { type: "container_file_t,upperdir=/etc" },
      { level: 's0:c1",upperdir="/etc' },
      { level: "s0:c1,upperdir=/etc" },
      { level: "s0:c1\\,c2" },
      { level: "s0:c1,c2 rw" },
      // Additional label parts.
      { user: "system_u:system_r:init_t:s0" },
      { type: "spc_t:s0" },
      { role: "a:b" },
      // The end of a string or line.
      { type: "container_t\0" },
      { type: "container_t\n" },
      { level: "s0\n" },
      { level: "s0:c1,,c2" },
      { level: "s0:c1.c2.c3" },
      { level: "s0:c99999" },
      { level: `s0:${"c1,".repeat(5000)}c1` },
      { type: "t".repeat(5000) },
      { type: "../../etc" },
      { type: "container_t\u202e" },
      { user: " " },
    ];
    for (const attack of attacks)
      expect(() => withOptions(process, named(attack), "pod web"), JSON.stringify(attack)).toThrow(
        "of pod web cannot be used",
      );
  });

  test("without levels, on a host whose policy has none, accepts only s0", () => {
    expect(labelText(withOptions(withoutLevels.process, named({ level: "s0" }), "pod web"))).toBe(
      "system_u:system_r:container_t",
    );
    expect(() => withOptions(withoutLevels.process, named({ level: "s0:c1" }), "pod web")).toThrow(
      "this host's policy has no levels",
    );
  });
});

describe("the host's policy", () => {
  let directory: string;
  const places = () => ({
    selinuxfs: join(directory, "fs"),
    configuration: join(directory, "etc"),
    shared: join(directory, "shared"),
  });
  const all = async (label: string) => label;
  const contexts = `# Containers
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file = "system_u:object_r:container_ro_file_t:s0"
`;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "keelson-selinux-"));
    await mkdir(join(directory, "etc/default/contexts"), { recursive: true });
    await mkdir(join(directory, "fs"));
    await writeFile(join(directory, "fs/mls"), "1");
  });
  afterAll(() => rm(directory, { recursive: true }));

  test("is off if no selinuxfs is mounted, and nothing else is read then", async () => {
    expect(await readSelinux({ ...places(), selinuxfs: join(directory, "none") }, all)).toEqual(off);
  });

  test("without labels for containers is reported as unlabelled, with the reason", async () => {
    expect(await readSelinux(places(), all)).toMatchObject({
      kind: "unlabelled",
      reason: expect.stringContaining("/etc/targeted/contexts/lxc_contexts"),
    });
  });

  test("is the configured one; otherwise the one from the container packages", async () => {
    await writeFile(join(directory, "shared"), contexts.replaceAll("container_t", "shared_t"));
    expect(await readSelinux(places(), all)).toMatchObject({ kind: "on", process: { type: "shared_t" } });
    await writeFile(join(directory, "etc/config"), "SELINUX=permissive\nSELINUXTYPE=default\n");
    await writeFile(join(directory, "etc/default/contexts/lxc_contexts"), contexts);
    expect(await readSelinux(places(), all)).toMatchObject({ process, file, hasCategories: true });
  });

  test("has categories if the kernel accepts them", async () => {
    const few = async (label: string) => (label.includes("c1023") ? undefined : label);
    expect(await readSelinux(places(), few)).toMatchObject({ kind: "on", hasCategories: false });
    const none = async () => undefined;
    expect(await readSelinux(places(), none)).toMatchObject({
      reason: expect.stringContaining("is not valid in the loaded policy"),
    });
    await writeFile(join(directory, "etc/default/contexts/lxc_contexts"), contexts.replaceAll(":s0", ""));
    expect(await readSelinux(places(), all)).toMatchObject({ hasCategories: false, process: { level: "" } });
  });

  test("reports whether this process may start containers, if the kernel does", async () => {
    const own = "system_u:system_r:init_t:s0";
    expect(await unfitLabel(policy, async () => ({ own, isAllowed: false }))).toBe(own);
    expect(await unfitLabel(policy, async () => ({ own, isAllowed: true }))).toBeUndefined();
    expect(await unfitLabel(policy)).toBeUndefined();
  });

  test("returns a label in the kernel's canonical form", async () => {
    await writeFile(join(directory, "etc/default/contexts/lxc_contexts"), contexts);
    await writeFile(join(directory, "fs/context"), "");
    const selinux = await readSelinux(places());
    expect(selinux.kind === "on" && (await selinux.canonical("u:r:t:s0"))).toBe("u:r:t:s0");
  });
});

describe("a pod's labels", () => {
  test("have a pair of categories, and its files have the same", () => {
    expect(choosePodLabels(policy, pod(), [], inTurn(2, 1))).toEqual(labels);
  });

  test("share no pair with another pod, in either order of categories", () => {
    const taken = ["s0:c1,c2", "s0:c4,c3", ""];
    const chosen = choosePodLabels(policy, pod(), taken, inTurn(1, 2, 3, 4, 1022, 1023, 7, 7, 5, 6));
    expect(chosen?.process).toBe("system_u:system_r:container_t:s0:c5,c6");
    const many = new Set<string>();
    for (let count = 0; count < 300; count += 1)
      many.add(parseLabel(choosePodLabels(policy, pod(), many)?.process ?? "")?.level ?? "");
    expect(many.size).toBe(300);
  });

  test("take the requested parts; files take the level and user, but not the type", () => {
    const selinux = named({ user: "staff_u", type: "web_t", level: "s0:c9" });
    expect(choosePodLabels(policy, pod({ selinux }), [])).toEqual({
      process: "staff_u:system_r:web_t:s0:c9",
      mount: "staff_u:object_r:container_file_t:s0:c9",
    });
    expect(choosePodLabels(policy, pod({ selinux: named({ type: "web_t" }) }), [], inTurn(1, 2))).toEqual({
      process: "system_u:system_r:web_t:s0:c1,c2",
      mount: labels.mount,
    });
  });

  test("have no categories where the policy has none", () => {
    expect(choosePodLabels(withoutLevels, pod(), [])?.mount).toBe("system_u:object_r:container_file_t");
    expect(choosePodLabels({ ...policy, hasCategories: false }, pod(), [])?.mount).toBe(
      "system_u:object_r:container_file_t:s0",
    );
  });

  test("do not exist without SELinux, even if requested", () => {
    expect(choosePodLabels(off, pod({ selinux: named({ level: "s0:c1,c2" }) }), [])).toBeUndefined();
  });

  test("are refused if SELinux is active and the policy has none for containers", () => {
    const unlabelled: Selinux = { kind: "unlabelled", reason: "the file is missing" };
    expect(choosePodLabels(unlabelled, pod(), [])).toBeUndefined();
    const selinux = named({ level: "s0:c1,c2" });
    expect(() => choosePodLabels(unlabelled, pod({ selinux }), [])).toThrow(
      "The SELinux label :::s0:c1,c2 was requested for pod web, but this node cannot set labels: the file is missing.",
    );
    expect(choosePodLabels(unlabelled, pod({ selinux, privileged: true }), [])).toBeUndefined();
  });
});

describe("a container's labels", () => {
  test("are its pod's, except for requested parts", async () => {
    expect(await containerLabels(policy, { labels, config: pod() }, container())).toEqual(labels);
    const selinux = named({ type: "web_t", level: "s0:c7" });
    expect(await containerLabels(policy, { labels, config: pod() }, container({ selinux }))).toEqual({
      process: "system_u:system_r:web_t:s0:c7",
      mount: "system_u:object_r:container_file_t:s0:c7",
    });
  });

  test("are only set on files for privileged containers, and those with the host's PID or IPC namespace", async () => {
    const unconfined = { mount: labels.mount };
    const config = pod();
    const selinux = named({ type: "web_t" });
    expect(await containerLabels(policy, { labels, config }, container({ privileged: true, selinux }))).toEqual(
      unconfined,
    );
    for (const shared of [{ pid: "node" }, { ipc: "node" }] as const) {
      const namespaces = { ...podNamespaces, ...shared };
      expect(await containerLabels(policy, { labels, config }, container({ namespaces }))).toEqual(unconfined);
      expect(await containerLabels(policy, { labels, config: pod({ namespaces }) }, container())).toEqual(unconfined);
      const confined = await containerLabels(policy, { labels, config }, container({ namespaces, selinux }));
      expect(confined.process).toBe("system_u:system_r:web_t:s0:c1,c2");
    }
    const network = { ...podNamespaces, network: "node" } as const;
    expect(await containerLabels(policy, { labels, config }, container({ namespaces: network }))).toEqual(labels);
  });

  test("are in the kernel's canonical form, and refused if not valid", async () => {
    const picky: Selinux = {
      ...policy,
      canonical: async (label) => (label.includes("nobody_t") ? undefined : label.replace("c2,c1", "c1,c2")),
    };
    const reversed = container({ selinux: named({ level: "s0:c2,c1" }) });
    expect(await containerLabels(picky, { labels, config: pod() }, reversed)).toEqual(labels);
    const unknown = container({ selinux: named({ type: "nobody_t" }) });
    await expect(containerLabels(picky, { labels, config: pod() }, unknown)).rejects.toMatchObject({
      code: "InvalidArgument",
      message: expect.stringContaining("system_u:system_r:nobody_t:s0:c1,c2 of container main is not valid"),
    });
    await expect(known(picky, { ...labels, process: "u:r:nobody_t:s0" }, "pod web")).rejects.toThrow("of pod web");
  });

  test("do not exist in a pod of an older keelson, where a requested label is refused", async () => {
    expect(await containerLabels(policy, { config: pod() }, container())).toEqual({});
    const asking = container({ selinux: named({ type: "web_t" }) });
    await expect(containerLabels(policy, { config: pod() }, asking)).rejects.toMatchObject({
      code: "FailedPrecondition",
      message: expect.stringContaining("set no labels"),
    });
    expect(await containerLabels(off, { config: pod() }, asking)).toEqual({});
  });
});
