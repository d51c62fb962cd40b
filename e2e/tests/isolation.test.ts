// What a container can see and access of the host, requested through CRI and checked from inside.

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, readlink, rename, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { type ContainerWish, createContainer, runContainer } from "../fixtures/container.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { until } from "../fixtures/steps.ts";

const { POD, CONTAINER, NODE } = runtime.v1.NamespaceMode;
const mapping = [{ containerId: 0, hostId: 400_000, length: 65_536 }];
const ownUsers = { namespaceOptions: { pid: CONTAINER, usernsOptions: { mode: POD, uids: mapping, gids: mapping } } };
const admin = { capabilities: { addCapabilities: ["SYS_ADMIN"] } };
const hierarchies = "/sys/fs/cgroup";
const overlayFollows = readFileSync("/sys/module/overlay/parameters/redirect_always_follow", "utf8").trim() === "Y";
const hybrid = existsSync(join(hierarchies, "memory"));

const handlers = await ociHandlers();

let node: TestNode;
beforeAll(async () => {
  node = await startNode({ handlers });
});
afterAll(async () => {
  await node.close();
});

const create = (name: string, wish: ContainerWish) => createContainer(node, name, wish);
const run = (name: string, wish: ContainerWish) => runContainer(node, name, wish);

describe.each(["native", "runc", "crun"])("handler %s", (handler) => {
  beforeEach(({ skip }) => skip(lacks(handlers, handler)));

  test.each([false, true])(
    "a device requested at the path of another one replaces it, privileged %s",
    async (privileged) => {
      const devices = [
        { hostPath: "/dev/urandom", containerPath: "/dev/random", permissions: "rwm" },
        { hostPath: "/dev/full", containerPath: "/dev//kmsg/", permissions: "rwm" },
      ];
      const security = { privileged };
      const { podSandboxId, sh } = await run(`places-${privileged}-${handler}`, { handler, devices, security });
      expect(await sh("stat -c %t:%T /dev/random /dev/kmsg")).toBe("1:9\n1:7\n");
      await node.client.removePodSandbox({ podSandboxId });
    },
  );

  test("empty lists of masked and read-only paths mean the usual defaults of other runtimes", async () => {
    const { podSandboxId, sh } = await run(`masks-${handler}`, { handler });
    const pattern = "/proc/sys/kernel/core_pattern";
    const before = await readFile(pattern, "utf8");
    expect(await sh(`cat ${pattern} > /old; cat /old > ${pattern} 2>&1; true`)).toMatch(/Read-only file system/);
    expect(await readFile(pattern, "utf8")).toBe(before);
    expect(await sh("cat /proc/interrupts /proc/kcore /proc/keys 2>/dev/null | wc -c; ls /sys/firmware")).toBe("0\n");
    expect(await sh("(: > /proc/sysrq-trigger) 2>/dev/null || echo refused")).toBe("refused\n");
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("no signal is ignored or blocked, including the two that the C library reserves", async () => {
    const { client, image, podConfig } = node;
    const config = podConfig(`signals-${handler}`);
    const { podSandboxId } = await client.runPodSandbox({ config, runtimeHandler: handler });
    const { containerId } = await client.createContainer({
      podSandboxId,
      sandboxConfig: config,
      config: {
        metadata: { name: "main", attempt: 0 },
        image: { image },
        command: ["sleep", "1000"],
        linux: { securityContext: { namespaceOptions: { pid: CONTAINER } } },
      },
    });
    await client.startContainer({ containerId });
    const cmd = ["grep", "-hE", "Sig(Blk|Ign)", "/proc/1/status", "/proc/self/status"];
    const { stdout } = await client.execSync({ containerId, cmd });
    const none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    expect(Buffer.from(stdout).toString()).toBe(none.repeat(2));
    await client.removePodSandbox({ podSandboxId });
  });

  test("HOME is taken from a passwd file that the pod mounts, in an exec too", async () => {
    const passwd = join(node.directory, "passwd");
    await writeFile(passwd, "root:x:0:0:root:/home/elsewhere:/bin/sh\n");
    const mounts = [{ containerPath: "/etc/passwd", hostPath: passwd, readonly: true }];
    const security = { namespaceOptions: { pid: CONTAINER } };
    const { podSandboxId, sh } = await run(`home-${handler}`, { handler, mounts, security });
    expect(await sh("tr '\\0' '\\n' < /proc/1/environ | grep HOME; echo HOME=$HOME")).toBe(
      "HOME=/home/elsewhere\n".repeat(2),
    );
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("a container sees its own cgroup as the root, at the start and in an exec", async () => {
    const { podSandboxId, sh } = await run(`cgroup-${handler}`, { handler, logPath: `cgroup-${handler}.log` });
    const log = await until("the start's cgroups in the log", 10_000, async () => {
      const text = await readFile(join(node.logs, `cgroup-${handler}.log`), "utf8");
      return text.includes(hybrid ? " 0::" : "0::") ? text : undefined;
    });
    for (const text of [log, await sh("cat /proc/self/cgroup")]) {
      const rows = text.trim().split("\n");
      expect(rows.length).toBeGreaterThan(hybrid ? 8 : 0);
      for (const row of rows) expect(row).toMatch(/:\/$/);
    }
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("with CAP_SYS_ADMIN it can mount only its own subtree of the cgroup hierarchies", async () => {
    const { podSandboxId, containerId, sh } = await run(`admin-${handler}`, { handler, security: admin });
    const types = hybrid ? ["cgroup -o memory", "cgroup2"] : ["cgroup2"];
    for (const type of types) {
      const at = type.includes("memory")
        ? join(hierarchies, "memory")
        : hybrid
          ? join(hierarchies, "unified")
          : hierarchies;
      expect(
        await sh(`mkdir -p /mnt && mount -t ${type} none /mnt && mkdir /mnt/made-${containerId} && echo made`),
      ).toBe("made\n");
      expect(await readdir(at)).not.toContain(`made-${containerId}`);
      expect(
        await sh(`ls -d /mnt/keelson* /mnt/${containerId} 2>/dev/null; rmdir /mnt/made-${containerId}; umount /mnt`),
      ).toBe("");
    }
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("the pod's files are mounted noexec, nodev and nosuid, and are limited to 256 KiB", async () => {
    const { podSandboxId, sh } = await run(`files-${handler}`, { handler });
    for (const path of ["/etc/resolv.conf", "/etc/hostname", "/dev/shm"])
      expect(await sh(`grep ' ${path} ' /proc/self/mountinfo`)).toMatch(/ rw,nosuid,nodev,noexec/);
    expect(await sh("dd if=/dev/zero of=/etc/resolv.conf bs=64k count=640 2>&1; true")).toMatch(/No space left/);
    expect(Number(await sh("stat -c %s /etc/resolv.conf"))).toBeLessThanOrEqual(256 << 10);
    await node.client.removePodSandbox({ podSandboxId });
    const { sh: readonly, podSandboxId: other } = await run(`ro-files-${handler}`, {
      handler,
      security: { readonlyRootfs: true },
    });
    for (const path of ["/etc/resolv.conf", "/etc/hostname"])
      expect(await readonly(`grep ' ${path} ' /proc/self/mountinfo`)).toMatch(/ ro,nosuid,nodev,noexec/);
    await node.client.removePodSandbox({ podSandboxId: other });
  });

  // The kernel shows the option only if it differs from the host's default.
  test.runIf(overlayFollows)(
    "its root follows no overlayfs redirect in a layer, although the host's overlays do",
    async () => {
      const { podSandboxId, sh } = await run(`overlay-${handler}`, { handler });
      expect(await sh("grep ' / / ' /proc/self/mountinfo")).toMatch(/ overlay .*redirect_dir=nofollow/);
      await node.client.removePodSandbox({ podSandboxId });
    },
  );

  test.runIf(hybrid)("on a hybrid v1 host, containers see each v1 controller and no v2 tree", async () => {
    const { podSandboxId, sh } = await run(`hybrid-${handler}`, { handler });
    const names = (await sh("ls /sys/fs/cgroup")).trim().split("\n");
    expect(names).not.toContain("unified");
    expect(names).toEqual(expect.arrayContaining(["cpu", "cpuacct", "cpuset", "freezer", "memory", "pids"]));
    const limit = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    expect(
      await sh(
        `grep -x $$ /sys/fs/cgroup/memory/cgroup.procs >/dev/null && echo own; test -r ${limit} && echo readable`,
      ),
    ).toBe("own\nreadable\n");
    await node.client.removePodSandbox({ podSandboxId });
  });
});

test("a privileged container has the host's cgroup namespace, and no masked paths", async () => {
  const { podSandboxId, sh } = await run("privileged", { security: { privileged: true } });
  expect((await sh("readlink /proc/self/ns/cgroup")).trim()).toBe(await readlink("/proc/self/ns/cgroup"));
  expect(await sh("grep -c ' /proc/' /proc/self/mountinfo; true")).toBe("0\n");
  await node.client.removePodSandbox({ podSandboxId });
});

test("a container without namespaces in its request uses its pod's shared memory, even if that is the host's", async () => {
  const { podSandboxId, sh } = await run("host-ipc", { pod: { securityContext: { namespaceOptions: { ipc: NODE } } } });
  expect(await sh("readlink /proc/self/ns/ipc; stat -c %d /dev/shm")).toBe(
    `${await readlink("/proc/self/ns/ipc")}\n${(await stat("/dev/shm")).dev}\n`,
  );
  await node.client.removePodSandbox({ podSandboxId });
});

test("a container in a user namespace has its own cgroup namespace too, and can request no masked paths", async () => {
  const { podSandboxId, sh } = await run("own-users", { security: ownUsers });
  for (const row of (await sh("cat /proc/self/cgroup")).trim().split("\n")) expect(row).toMatch(/:\/$/);
  expect(await sh("grep -c ' /proc/' /proc/self/mountinfo; true")).toBe("0\n");
  // Its root still cannot change the host's settings.
  expect(await sh("(: > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused")).toBe("refused\n");
  await node.client.removePodSandbox({ podSandboxId });
  const lists = { maskedPaths: ["/proc/kcore"], readonlyPaths: ["/proc/sys"] };
  const masked = await run("own-users-masked", { security: { ...ownUsers, ...lists } });
  expect(await masked.sh("cat /proc/keys /proc/interrupts | wc -c; ls /sys/firmware")).toBe("0\n");
  expect(await masked.sh("grep ' /proc/sys ' /proc/self/mountinfo")).toMatch(/ ro,/);
  await node.client.removePodSandbox({ podSandboxId: masked.podSandboxId });
});

describe("a mount at /proc", () => {
  test.each(["/proc", "/proc/", "//proc/."])(
    "of a directory, as %s, is refused with the reason",
    async (containerPath) => {
      const hostPath = join(node.directory, "no-procfs");
      await expect(create("over-proc", { mounts: [{ hostPath, containerPath }] })).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
        details: expect.stringContaining("is not a procfs"),
      });
      await node.removePods();
    },
  );

  test("of the host's procfs leaves a procfs there", async () => {
    const { podSandboxId, sh } = await run("host-proc", { mounts: [{ hostPath: "/proc", containerPath: "/proc" }] });
    expect(await sh(`test -d /proc/${process.pid} && stat -f -c %T /proc`)).toBe("proc\n");
    // The masks are applied to the topmost procfs.
    expect(await sh("(: > /proc/sysrq-trigger) 2>/dev/null || echo refused; cat /proc/keys | wc -c")).toBe(
      "refused\n0\n",
    );
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("of a part of the host's procfs is refused", async () => {
    const { start } = await create("part-proc", { mounts: [{ hostPath: "/proc/sys", containerPath: "/proc" }] });
    await expect(start()).rejects.toThrow("refuse to mount over procfs at /proc");
    await node.removePods();
  });

  test("is refused if it covers the whole root", async () => {
    await expect(create("root", { mounts: [{ hostPath: "/tmp", containerPath: "/" }] })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining("hide the container's root"),
    });
    await node.removePods();
  });
});

describe("links that are created between a request's check and its use", () => {
  test.each(["parent", "source"])("a link in place of a mount's %s is not followed", async (which) => {
    const base = join(node.directory, `swap-${which}`);
    const secret = join(node.directory, `secret-${which}`);
    await mkdir(join(base, "volume/data"), { recursive: true });
    await mkdir(join(secret, "data"), { recursive: true });
    const hostPath = join(base, "volume/data");
    const { podSandboxId, start } = await create(`swap-${which}`, { mounts: [{ hostPath, containerPath: "/data" }] });
    const victim = which === "parent" ? join(base, "volume") : hostPath;
    await rename(victim, `${victim}-moved`);
    await symlink(which === "parent" ? secret : join(secret, "data"), victim);
    await expect(start()).rejects.toMatchObject({ details: expect.stringContaining("refuse a symbolic link") });
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("a link that existed when the request came is resolved", async () => {
    const hostPath = join(node.directory, "early-link");
    await mkdir(join(node.directory, "early"));
    await writeFile(join(node.directory, "early/file"), "content\n");
    await symlink("early", hostPath);
    const { podSandboxId, sh } = await run("early", { mounts: [{ hostPath, containerPath: "/data" }] });
    expect(await sh("cat /data/file")).toBe("content\n");
    await node.client.removePodSandbox({ podSandboxId });
  });
});

describe("a log", () => {
  let outside: string;
  beforeAll(async () => {
    outside = join(node.directory, "outside");
    await mkdir(outside);
    await mkdir(join(node.directory, "pods/pod"), { recursive: true });
    await symlink(outside, join(node.directory, "pods/pod/linked"));
    await symlink(outside, join(node.directory, "pods/linked-pod"));
    await symlink("pods", join(node.directory, "pods-link"));
  });

  test.each([
    ["below the pod's directory", "pods/pod", "linked/0.log"],
    ["deeper below it", "pods/pod", "linked/deep/0.log"],
    ["in place of the pod's directory", "pods/linked-pod", "0.log"],
  ])("is not created through a link %s", async (_, directory, logPath) => {
    const { podSandboxId, start } = await create("log-link", {
      logDirectory: join(node.directory, directory),
      logPath,
    });
    await expect(start()).rejects.toMatchObject({ details: expect.stringContaining("symbolic link") });
    expect(await readdir(outside)).toEqual([]);
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("is not reopened through a link that was created later", async () => {
    const logDirectory = join(node.directory, "pods/pod");
    const { podSandboxId, containerId } = await run("log-later", { logDirectory, logPath: "later/0.log" });
    await rename(join(logDirectory, "later"), join(logDirectory, "before"));
    await symlink(outside, join(logDirectory, "later"));
    await expect(node.client.reopenContainerLog({ containerId })).rejects.toThrow("symbolic link");
    expect(await readdir(outside)).toEqual([]);
    await node.client.removePodSandbox({ podSandboxId });
  });

  test("is created if the node's log directory is behind a link", async () => {
    const { podSandboxId } = await run("log-node", {
      logDirectory: join(node.directory, "pods-link/other"),
      logPath: "container/0.log",
    });
    expect((await stat(join(node.directory, "pods/other/container/0.log"))).isFile()).toBe(true);
    await node.client.removePodSandbox({ podSandboxId });
  });
});

test("a container whose seccomp filter is missing from its record does not run unfiltered", async () => {
  const profile = { profileType: runtime.v1.SecurityProfile.ProfileType.RuntimeDefault };
  const { podSandboxId, containerId, start } = await create("seccomp", { security: { seccomp: profile } });
  await node.daemon.kill();
  const records = join(node.directory, "root/state");
  const [name = ""] = (await readdir(records, { recursive: true })).filter((file) => file.includes(containerId));
  const record = JSON.parse(await readFile(join(records, name), "utf8"));
  const body = record.body.replace(/,"seccompFilter":"[^"]*"/, "");
  expect(body).not.toBe(record.body);
  const sha256 = createHash("sha256").update(body).digest("hex");
  await writeFile(join(records, name), JSON.stringify({ ...record, sha256, body }));
  await node.daemon.start();
  await expect(start()).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
    details: expect.stringContaining("seccomp"),
  });
  await node.client.removePodSandbox({ podSandboxId });
});

test("nothing is left behind", async () => {
  await node.removePods();
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
  await node.daemon.start();
});

test("without SELinux, a pod with labels runs", async () => {
  const labelled = { securityContext: { selinuxOptions: { level: "s0:c1,c2" } } };
  const pod = { ...node.podConfig("labelled"), linux: labelled };
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const config = {
    metadata: { name: "main", attempt: 0 },
    image: { image: node.image },
    command: ["sleep", "60"],
    linux: { securityContext: { selinuxOptions: { type: "container_t" } } },
  };
  const { containerId } = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await node.client.startContainer({ containerId });
  const { exitCode } = await node.client.execSync({ containerId, cmd: ["true"] });
  expect(exitCode).toBe(0);
});
