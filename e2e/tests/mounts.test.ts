// Mounts of host paths, as requested with CRI's Mount. critest covers propagation and read-only trees.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { mountSilent } from "../fixtures/silent-file-system.ts";

const handlers = await ociHandlers();
let node: TestNode;
let featureless: string;
beforeAll(async () => {
  const scratch = await mkdtemp(join(tmpdir(), "keelson-mounts-"));
  // A runtime without a "features" command.
  featureless = join(scratch, "featureless");
  const pass = `[ "$1" = features ] && exit 1; exec ${handlers.runc} "$@"`;
  await writeFile(featureless, `#!/bin/sh\n${pass}\n`, { mode: 0o755 });
  node = await startNode({ handlers: lacks(handlers, "runc") ? {} : { ...handlers, featureless } });
});
afterAll(async () => {
  await node.close();
  await rm(dirname(featureless), { recursive: true, force: true });
});

async function run(name: string, mounts: readonly object[], runtimeHandler = "") {
  const { client, image } = node;
  const pod = node.podConfig(name);
  const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler });
  const config = {
    metadata: { name, attempt: 0 },
    image: { image },
    command: ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
    mounts: [...mounts],
    linux: {},
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  return async (script: string): Promise<string> => {
    const answer = await client.execSync({ containerId, cmd: ["sh", "-c", script] });
    return Buffer.concat([answer.stdout, answer.stderr]).toString();
  };
}

async function volume(name: string): Promise<string> {
  const path = join(node.directory, name);
  await mkdir(path);
  await writeFile(join(path, "tool"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
  return path;
}

test.for(["native", "runc"])(
  "the options noexec, nodev and nosuid apply to the mount, with handler %s",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler));
    const hostPath = await volume(`options-${handler}`);
    const mounts = [
      { hostPath, containerPath: "/plain" },
      { hostPath, containerPath: "/bare", mountOptions: ["noexec", "nodev", "nosuid"] },
    ];
    const sh = await run(`options-${handler}`, mounts, handler);
    expect(await sh("/plain/tool; /bare/tool 2>&1; true")).toMatch(/^ran\n.*denied/);
    expect(await sh("grep ' /bare ' /proc/self/mountinfo")).toMatch(/ rw,nosuid,nodev,noexec/);
    expect(await sh("grep ' /plain ' /proc/self/mountinfo")).not.toMatch(/noexec/);
  },
);

test.for(["native", "runc"])(
  "a mounted /dev/net/tun can be opened, with handler %s: pods with a VPN have no other way to it",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler) || !existsSync("/dev/net/tun"));
    const tun = { hostPath: "/dev/net/tun", containerPath: "/dev/net/tun" };
    const sh = await run(`tun-${handler}`, [tun], handler);
    expect(await sh("(: <>/dev/net/tun) 2>&1 && echo opened")).toBe("opened\n");
  },
);

test("an unknown option is refused", async () => {
  const mounts = [{ hostPath: "/tmp", containerPath: "/x", mountOptions: ["suid"] }];
  await expect(run("unknown", mounts)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
});

test("image_sub_path is ignored on a mount without an image: kubelets set it on the other mounts with a subPath, too", async () => {
  const hostPath = await volume("sub-path");
  const sh = await run("sub-path", [{ hostPath, containerPath: "/data", imageSubPath: "sub-path" }]);
  expect(await sh("/data/tool")).toBe("ran\n");
});

test("without SELinux, relabelling is a no-op", async () => {
  const hostPath = await volume("relabel");
  const sh = await run("relabel", [{ hostPath, containerPath: "/data", selinuxRelabel: true }]);
  expect(await sh("/data/tool")).toBe("ran\n");
});

test("files, links, missing paths and nested mounts work in any order", async () => {
  const outer = await volume("outer");
  const inner = await volume("inner");
  await writeFile(join(outer, "file"), "file\n");
  await symlink(inner, join(node.directory, "link"));
  const missing = join(node.directory, "missing/deep");
  const sh = await run("various", [
    { hostPath: inner, containerPath: "/a/b/c" },
    { hostPath: outer, containerPath: "/a" },
    { hostPath: join(outer, "file"), containerPath: "/etc/file" },
    { hostPath: join(node.directory, "link"), containerPath: "/linked" },
    { hostPath: missing, containerPath: "/missing" },
  ]);
  expect(await sh("cat /etc/file; /a/b/c/tool; /linked/tool; ls -A /missing; touch /missing/made")).toBe(
    "file\nran\nran\n",
  );
  expect(await readdir(missing)).toEqual(["made"]);
});

test.for(["native", "runc"])(
  "a volume at /etc or /dev does not hide the pod's own files and mounts, with handler %s",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler));
    const hostPath = await volume(`etc-${handler}`);
    const mounts = [
      { hostPath, containerPath: "/etc" },
      { hostPath: "/dev", containerPath: "/dev" },
    ];
    const sh = await run(`etc-${handler}`, mounts, handler);
    expect(await sh("wc -l < /etc/resolv.conf; cat /etc/hostname; ls /etc")).toMatch(
      new RegExp(`^[1-9]\\d*\netc-${handler}\nhostname\nresolv.conf\ntool\n$`),
    );
    expect(await sh("grep ' /dev/shm ' /proc/self/mountinfo | tail -1")).toContain(" - tmpfs shm ");
  },
);

test("the pod's own mounts do not propagate to the host through a shared volume", async () => {
  const hostPath = await volume("shared-etc");
  const linked = await volume("linked-etc");
  execFileSync("mount", ["-t", "tmpfs", "none", hostPath]);
  try {
    execFileSync("mount", ["--make-shared", hostPath]);
    const shared = { hostPath, propagation: 2 };
    const sh = await run("shared-etc", [{ ...shared, containerPath: "/etc" }]);
    expect(await sh("ls -A /etc")).toBe("");
    await symlink("/run/resolv.conf", join(linked, "resolv.conf"));
    await run("linked-etc", [
      { hostPath: linked, containerPath: "/etc" },
      { ...shared, containerPath: "/run" },
    ]);
    expect(await readdir(hostPath)).toEqual([]);
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(`${hostPath}/`);
  } finally {
    await node.removePods();
    execFileSync("umount", ["-R", hostPath]);
  }
});

test("a terminal's console does not propagate to the host through a shared /dev", async () => {
  const hostPath = join(node.directory, "shared-dev");
  await mkdir(hostPath);
  execFileSync("mount", ["--rbind", "/dev", hostPath]);
  try {
    execFileSync("mount", ["--make-rshared", hostPath]);
    const { client, image } = node;
    const pod = node.podConfig("shared-dev");
    const { podSandboxId } = await client.runPodSandbox({ config: pod });
    const config = {
      metadata: { name: "main", attempt: 0 },
      image: { image },
      command: ["sh", "-c", "test -t 0 && sleep 1000"],
      mounts: [{ hostPath, containerPath: "/dev", propagation: 2 }],
      tty: true,
      linux: {},
    };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await client.startContainer({ containerId });
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(join(hostPath, "console"));
    expect((await client.execSync({ containerId, cmd: ["true"] })).exitCode).toBe(0);
  } finally {
    await node.removePods();
    execFileSync("umount", ["-R", hostPath]);
  }
});

test("a mount target and a working directory with .. stay inside the container's root", async () => {
  const hostPath = await volume("climbing");
  const { client, image } = node;
  const pod = node.podConfig("climbing");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const config = {
    metadata: { name: "main", attempt: 0 },
    image: { image },
    command: ["sh", "-c", "pwd; ls /b/volume /top"],
    workingDir: "/b/../../../b/volume/../here",
    mounts: ["/a/../b/./volume", "/../../top"].map((containerPath) => ({ hostPath, containerPath })),
    logPath: "climbing.log",
    linux: {},
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  await expect
    .poll(async () => (await readFile(join(node.logs, "climbing.log"), "utf8")).replaceAll(/^\S+ stdout F /gm, ""))
    .toBe("/b/here\n/b/volume:\ntool\n\n/top:\ntool\n");
  await client.removePodSandbox({ podSandboxId });
});

test("a recursively read-only tree, and a handler that does not support it", async ({ skip }) => {
  skip(lacks(handlers, "runc"));
  const hostPath = await volume("tree");
  await mkdir(join(hostPath, "below"));
  execFileSync("mount", ["-t", "tmpfs", "none", join(hostPath, "below")]);
  try {
    const mounts = [{ hostPath, containerPath: "/tree", readonly: true, recursiveReadOnly: true }];
    for (const handler of ["native", "runc", "crun"]) {
      const sh = await run(`tree-${handler}`, mounts, handler);
      expect(await sh("touch /tree/x /tree/below/x 2>&1; true")).toMatch(/(Read-only[\s\S]*){2}/);
    }
    await expect(run("tree-featureless", mounts, "featureless")).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(/^RROUnsupported: /),
    });
  } finally {
    const { items } = await node.client.listPodSandbox({});
    for (const { id } of items) await node.client.removePodSandbox({ podSandboxId: id ?? "" });
    execFileSync("umount", [join(hostPath, "below")]);
  }
});

test.each([
  { name: "bidirectional", propagation: 2, kind: " shared:" },
  { name: "host-to-container", propagation: 1, kind: " master:" },
])("a $name mount of a private host mount is refused, and works once it is shared", async (wish) => {
  const { name, propagation, kind } = wish;
  const hostPath = await volume(`shared-${name}`);
  execFileSync("mount", ["-t", "tmpfs", "--make-private", "none", hostPath]);
  try {
    const below = join(hostPath, "below");
    await mkdir(join(below, "later"), { recursive: true });
    const mounts = [{ hostPath: below, containerPath: "/volume", propagation }];
    await expect(run(`private-${name}`, mounts)).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringContaining(`mount --make-rshared ${hostPath}`),
    });
    execFileSync("mount", ["--make-shared", hostPath]);
    const sh = await run(`shared-${name}`, mounts);
    expect(await sh("grep ' /volume ' /proc/self/mountinfo")).toContain(kind);
    execFileSync("mount", ["-t", "tmpfs", "none", join(below, "later")]);
    expect(await sh("grep ' /volume/later ' /proc/self/mountinfo")).toContain(kind);
  } finally {
    await node.removePods();
    execFileSync("umount", ["-R", hostPath]);
  }
});

test("a host-to-container mount of a slave mount works, and a bidirectional one is refused", async () => {
  const source = await volume("given");
  const hostPath = await volume("got");
  execFileSync("mount", ["-t", "tmpfs", "--make-shared", "none", source]);
  try {
    execFileSync("mount", ["--bind", source, hostPath]);
    execFileSync("mount", ["--make-slave", hostPath]);
    const sh = await run("got", [{ hostPath, containerPath: "/volume", propagation: 1 }]);
    expect(await sh("grep ' /volume ' /proc/self/mountinfo")).toContain(" master:");
    await expect(run("gives", [{ hostPath, containerPath: "/volume", propagation: 2 }])).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
    });
  } finally {
    await node.removePods();
    for (const mounted of [hostPath, source]) execFileSync("umount", [mounted]);
  }
});

// As Multus' thick plugin and Istio's ambient mode do with /run/netns.
test("an agent's pod sees the network namespaces of later pods, and that they go", async () => {
  const { client } = node;
  const hostPath = join(node.directory, "netns");
  await mkdir(hostPath, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "--make-shared", "none", hostPath]);
  try {
    const sh = await run("agent", [{ hostPath, containerPath: "/run/netns", propagation: 1 }]);
    const { podSandboxId } = await client.runPodSandbox({ config: node.podConfig("later") });
    const { info } = await client.podSandboxStatus({ podSandboxId, verbose: true });
    expect(JSON.parse(info.info ?? "{}")).toMatchObject({ netns: join(hostPath, podSandboxId) });
    expect(await sh(`stat -f -c %t /run/netns/${podSandboxId}`)).toBe("6e736673\n");
    await client.removePodSandbox({ podSandboxId });
    expect(await sh(`cat /proc/self/mountinfo; ls /run/netns`)).not.toContain(podSandboxId);
  } finally {
    await node.removePods();
    execFileSync("umount", ["--lazy", hostPath]);
  }
});

test("volumes on a hanging file system delay no other pod, and their own pods can be stopped", async () => {
  const { client, image } = node;
  const directory = join(node.directory, "silent");
  await mkdir(directory);
  const others = await run("beside-silent", []);
  await using _silent = await mountSilent(directory);
  // More than the threads in Node.js's pool.
  const pods = await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      const pod = node.podConfig(`silent-${index}`);
      return { pod, podSandboxId: (await client.runPodSandbox({ config: pod })).podSandboxId };
    }),
  );
  const refused = pods.map(({ pod, podSandboxId }, index) => {
    const mounts = [{ hostPath: join(directory, `volume-${index}`), containerPath: "/volume" }];
    const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: ["true"], mounts, linux: {} };
    const create = client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    return expect(create).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining("its file system has not answered for 10 s"),
    });
  });
  const begun = performance.now();
  expect(await others("echo there")).toBe("there\n");
  await run("another-beside-silent", [{ hostPath: await volume("beside-silent"), containerPath: "/volume" }]);
  expect((await client.listPodSandboxStats({})).stats.length).toBeGreaterThan(6);
  expect(performance.now() - begun).toBeLessThan(8_000);
  await Promise.all(refused);
  await Promise.all(pods.map(({ podSandboxId }) => client.stopPodSandbox({ podSandboxId })));
  await Promise.all(pods.map(({ podSandboxId }) => client.removePodSandbox({ podSandboxId })));
});

test("devices on a hanging file system delay no other pod", async () => {
  const { client, image } = node;
  const directory = join(node.directory, "silent-devices");
  await mkdir(directory);
  const others = await run("beside-silent-devices", []);
  await using _silent = await mountSilent(directory);
  const pod = node.podConfig("silent-devices");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  // More than the threads in Node.js's pool.
  const devices = Array.from({ length: 6 }, (_, index) => ({
    hostPath: join(directory, `device-${index}`),
    containerPath: `/dev/device-${index}`,
    permissions: "rw",
  }));
  const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: ["true"], devices, linux: {} };
  const refused = expect(client.createContainer({ podSandboxId, sandboxConfig: pod, config })).rejects.toMatchObject({
    code: status.UNAVAILABLE,
    details: expect.stringContaining("its file system has not answered for 10 s"),
  });
  const begun = performance.now();
  expect(await others("echo there")).toBe("there\n");
  await run("another-beside-silent-devices", []);
  expect(performance.now() - begun).toBeLessThan(8_000);
  await refused;
  await client.removePodSandbox({ podSandboxId });
});
