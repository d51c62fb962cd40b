// OCI runtimes as handlers of a daemon: which are refused, and which roots are passed to none of them.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRegistry, type TestRegistry } from "../../image/testing/registry.ts";
import { pullHostileImage } from "../fixtures/hostile-image.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers, oldRuntimes } from "../fixtures/oci-runtimes.ts";

const handlers = await ociHandlers();
let scratch: string;
let node: TestNode;
let registry: TestRegistry;

/** A runtime that reports the given version, and otherwise runs `binary`. */
async function fakeRuntime(name: string, version: string, binary: string): Promise<string> {
  const path = join(scratch, name);
  const script = `#!/bin/sh\n[ "$1" = --version ] && { echo "${version}"; exit; }\nexec ${binary} "$@"\n`;
  await writeFile(`${path}.new`, script, { mode: 0o755 });
  await rename(`${path}.new`, path);
  return path;
}

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "keelson-oci-handlers-"));
  const changing = lacks(handlers, "runc")
    ? {}
    : { changing: await fakeRuntime("changing", "runc version 1.3.6", handlers.runc ?? "") };
  // Vulnerable runtimes that report a fixed version: only our own checks protect the host.
  const lying = {
    "lying-runc": await fakeRuntime("lying-runc", "runc version 1.3.6", oldRuntimes.runc),
    "lying-crun": await fakeRuntime("lying-crun", "crun version 1.28", oldRuntimes.crun),
  };
  const refused = { "old-runc": oldRuntimes.runc, "old-crun": oldRuntimes.crun, missing: join(scratch, "missing") };
  [node, registry] = await Promise.all([
    startNode({ handlers: { ...handlers, ...changing, ...lying, ...refused } }),
    startRegistry(),
  ]);
});
afterAll(async () => {
  await node.close();
  await registry.stop();
  await rm(scratch, { recursive: true, force: true });
});

test.each([
  ["old-runc", /\/usr\/sbin\/runc is runc 1\.1\.5.*CVE-2024-21626, CVE-2025-31133.*runc 1\.3\.6, 1\.4\.3/],
  ["old-crun", /\/usr\/bin\/crun is crun 1\.8\.1.*CVE-2026-47766.*crun 1\.28/],
  ["missing", /missing cannot be run or its version is unknown \(ENOENT/],
])(
  "a pod with the handler %s is refused; the error names the version, the advisory and the fixed release",
  async (name, words) => {
    const run = node.client.runPodSandbox({ config: node.podConfig(`refused-${name}`), runtimeHandler: name });
    await expect(run).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(words),
    });
    expect((await node.client.listPodSandbox({})).items).toEqual([]);
  },
);

test("the status lists only the handlers that passed, and the log says why the others did not", async () => {
  const offered = (await node.client.status({})).runtimeHandlers.map(({ name }) => name);
  expect(offered).toEqual(expect.arrayContaining(["", "native", "lying-runc", "lying-crun", ...Object.keys(handlers)]));
  for (const name of ["old-runc", "old-crun", "missing"]) {
    expect(offered).not.toContain(name);
    const log = await readFile(node.daemon.logFile, "utf8");
    expect(log).toMatch(new RegExp(`the runtime handler ${name} is not offered`));
  }
});

test("a daemon whose default handler is refused does not start, and keelson check says why", async () => {
  const config = join(scratch, "config.toml");
  const own = join(scratch, "own");
  await writeFile(
    config,
    `root = "${own}/root"\nstate = "${own}/run"\n[runtime]\ndefault_handler = "old"\nhandlers.old.binary = "${oldRuntimes.runc}"\n`,
  );
  const keelson = (command: string) => {
    try {
      return execFileSync(join(import.meta.dirname, "../../cri/keelson"), ["--config", config, command], {
        encoding: "utf8",
        stdio: "pipe",
        timeout: 20_000,
      });
    } catch (error) {
      return error;
    }
  };
  expect(keelson("serve")).toMatchObject({ status: 2, stderr: expect.stringContaining("handler old is refused") });
  expect(keelson("check")).toMatchObject({
    stdout: expect.stringMatching(/fail {2}handlers +The runtime handler old is refused: .* runc 1\.1\.5/),
  });
});

test("after a downgrade under a running daemon, nothing is started with the runtime, and running containers can be stopped", async ({
  skip,
}) => {
  skip(lacks(handlers, "runc"));
  const { client } = node;
  const pod = node.podConfig("changing");
  const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler: "changing" });
  const containerId = await node.runContainer(pod, podSandboxId, "before", "trap 'exit 0' TERM; sleep 1000 & wait");
  const config = {
    metadata: { name: "after", attempt: 0 },
    image: { image: node.image },
    command: ["true"],
    linux: {},
  };
  const { containerId: second } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.execSync({ containerId, cmd: ["true"] });

  await fakeRuntime("changing", "runc version 1.2.7", handlers.runc ?? "");
  const refused = { code: status.FAILED_PRECONDITION, details: expect.stringContaining("is runc 1.2.7") };
  await expect(client.startContainer({ containerId: second })).rejects.toMatchObject(refused);
  await expect(client.execSync({ containerId, cmd: ["true"] })).rejects.toMatchObject(refused);
  const again = { config: node.podConfig("changing-again"), runtimeHandler: "changing" };
  await expect(client.runPodSandbox(again)).rejects.toMatchObject(refused);

  await fakeRuntime("changing", "runc version 1.3.6", handlers.runc ?? "");
  await client.startContainer({ containerId: second });
  await client.execSync({ containerId, cmd: ["true"] });

  await fakeRuntime("changing", "runc version 1.2.7", handlers.runc ?? "");
  await client.removePodSandbox({ podSandboxId });
  expect((await client.listPodSandbox({})).items).toEqual([]);
});

/** A host directory with a file that runc before 1.3.6 would remove. */
async function decoyDirectory(name: string): Promise<string> {
  const outside = join(scratch, name);
  await mkdir(outside);
  for (const file of ["ptmx", "decoy"]) await writeFile(join(outside, file), "untouched");
  return outside;
}

async function start(name: string, image: string, runtimeHandler: string): Promise<string> {
  const { client } = node;
  const pod = node.podConfig(name);
  const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler });
  try {
    const config = { metadata: { name, attempt: 0 }, image: { image }, command: ["true"], tty: true, linux: {} };
    const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    return await client.startContainer({ containerId }).then(
      () => "started",
      ({ details }) => details,
    );
  } finally {
    await client.removePodSandbox({ podSandboxId });
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(podSandboxId);
  }
}

test.for(["native", "lying-runc", "lying-crun", "runc", "crun"])(
  "a terminal in an image whose /dev is a link to the host leaves the host unchanged, with handler %s",
  async (handler, { skip }) => {
    skip(!handler.startsWith("lying") && lacks(handlers, handler));
    for (const form of ["absolute", "relative"]) {
      const outside = await decoyDirectory(`dev-${form}-${handler}`);
      // The root is mounted in a directory of the node: enough ".." reach the host's root.
      const link = form === "absolute" ? outside : `../../../../../../../../../..${outside}`;
      const image = await pullHostileImage(node, registry, `dev-${form}-${handler}`, [{ name: "dev", link }]);
      const said = await start(`dev-${form}-${handler}`, image, handler);
      if (handler !== "native") expect(said).toContain("use the image's /dev: it is a symbolic link");
      expect(await readdir(outside)).toEqual(["decoy", "ptmx"]);
      expect(await readFile(join(outside, "ptmx"), "utf8")).toBe("untouched");
    }
  },
);

test.for(["native", "lying-runc", "lying-crun"])(
  "an image whose /proc or /sys is a link is refused, with handler %s",
  async (handler) => {
    for (const path of ["proc", "sys"]) {
      const outside = await decoyDirectory(`${path}-${handler}`);
      const image = await pullHostileImage(node, registry, `${path}-${handler}`, [{ name: path, link: outside }]);
      const said = await start(`${path}-${handler}`, image, handler);
      expect(said).toContain(
        handler === "native" ? `mount target /${path}` : `use the image's /${path}: it is a symbolic`,
      );
      expect(await readdir(outside)).toEqual(["decoy", "ptmx"]);
    }
  },
);
