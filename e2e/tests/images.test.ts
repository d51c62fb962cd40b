// What an image can and cannot control in a container, through CRI requests.

import { access, chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildBusyboxImage } from "../fixtures/busybox-image.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.close());

/** Creates a container that prints its environment; returns its ID, and its output once it has run. */
async function runOnce(
  pod: ReturnType<TestNode["podConfig"]>,
  podSandboxId: string,
  name: string,
  image: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ containerId: string; said: () => Promise<string[]> }> {
  const { containerId } = await node.client.createContainer({
    podSandboxId,
    sandboxConfig: pod,
    config: {
      metadata: { name, attempt: 0 },
      image: { image },
      command: ["/bin/sh", "-c", "env; echo done"],
      envs: Object.entries(env).map(([key, value]) => ({ key, value: Buffer.from(value) })),
      logPath: `${pod.hostname}-${name}.log`,
      labels: { asked: "label" },
      annotations: { asked: "annotation" },
      linux: {},
    },
  });
  const said = () =>
    until(`the log of ${name}`, 20_000, async () => {
      const log = await readFile(join(node.logs, `${pod.hostname}-${name}.log`), "utf8").catch(() => "");
      const lines = log.split("\n").flatMap((line) => line.split(" ").slice(3).join(" ") || []);
      return lines.includes("done") ? lines : undefined;
    });
  return { containerId, said };
}

async function specOf(containerId: string): Promise<Record<string, unknown>> {
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return JSON.parse(await readFile(join(JSON.parse(info?.info ?? "{}").bundle, "config.json"), "utf8"));
}

test("image labels in reserved namespaces have no effect (CVE-2026-53488)", async () => {
  const mark = join(node.directory, `ran`);
  const program = join(node.directory, `program`);
  await writeFile(program, `#!/bin/sh\ntouch ${mark}\n`);
  await chmod(program, 0o755);
  const hook = JSON.stringify({ createRuntime: [{ path: program }] });
  const labels = {
    "containerd.io/restart.logpath": `binary://${program}`,
    "containerd.io/restart.status": "running",
    "containerd.io/gc.root": "now",
    "io.containerd.runc.v2.group": "another-pod",
    "io.kubernetes.cri-o.Seccomp": "unconfined",
    "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel": "true",
    "io.kubernetes.cri-o.Devices": "/dev/mem",
    "io.kubernetes.container.name": "another",
    "io.kubernetes.pod.uid": "another",
    "io.podman.annotations.privileged": "TRUE",
    "io.keelson.privileged": "true",
    "keelson.log": program,
    "run.oci.keep_original_groups": "1",
    "run.oci.hooks.stderr": mark,
    "run.oci.handler": "wasm",
    "module.wasm.image/variant": "compat",
    "cdi.k8s.io/devices": "vendor.com/device=all",
    "org.systemd.property.ExecStartPre": program,
    "org.opencontainers.image.stopSignal": "SIGSTOP",
    hooks: hook,
  };
  const image = `localhost/test/labelled:1`;
  const layout = await buildBusyboxImage(join(node.directory, `labelled`), image, { Labels: labels });
  node.daemon.keelson("image", "load", layout);
  const pod = node.podConfig(`labels`);
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });

  const plain = await runOnce(pod, podSandboxId, "plain", node.image);
  const labelled = await runOnce(pod, podSandboxId, "labelled", image);
  const [ours, theirs] = await Promise.all([specOf(plain.containerId), specOf(labelled.containerId)]);
  // A runtime gets only the bundle. The bundles may differ only where the requests do: in the container's names.
  const text = (spec: object, id: string, name: string) =>
    JSON.stringify(spec).replaceAll(id, "ID").replaceAll(`"${name}"`, "NAME");
  expect(text(theirs, labelled.containerId, "labelled")).toBe(text(ours, plain.containerId, "plain"));
  const { status } = await node.client.containerStatus({ containerId: labelled.containerId });
  expect(status).toMatchObject({ labels: { asked: "label" }, annotations: { asked: "annotation" } });

  await node.client.startContainer({ containerId: labelled.containerId });
  expect(await labelled.said()).toContain("done");
  await node.client.removePodSandbox({ podSandboxId });
  await expect(access(mark)).rejects.toThrow("ENOENT");
});

test("containers created concurrently from one image each have their own environment (CVE-2021-21334)", async () => {
  const image = "localhost/test/environment:1";
  const Env = ["PATH=/bin", "SHARED=image", ...Array.from({ length: 20 }, (_, index) => `IMAGE_${index}=${index}`)];
  node.daemon.keelson("image", "load", await buildBusyboxImage(join(node.directory, "environment"), image, { Env }));
  const pod = node.podConfig("environment");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  for (let round = 0; round < 3; round++) {
    const wished = Array.from({ length: 8 }, (_, index) => {
      const own = { [`ONLY_${round}_${index}`]: `secret-${round}-${index}`, COMMON: `of-${round}-${index}` };
      return index % 2 === 0 ? own : { ...own, SHARED: `request-${index}` };
    });
    const made = await Promise.all(
      wished.map((env, index) => runOnce(pod, podSandboxId, `c${round}-${index}`, image, env)),
    );
    await Promise.all(made.map(({ containerId }) => node.client.startContainer({ containerId })));
    const said = await Promise.all(made.map((container) => container.said()));
    for (const [index, lines] of said.entries()) {
      const found = new Map(lines.filter((line) => line.includes("=")).map((line) => [line.split("=")[0], line]));
      const expected = Object.entries({ SHARED: "image", ...wished[index] }).map(([key, value]) => `${key}=${value}`);
      const ours = [...found].filter(([key]) => /^(SHARED|COMMON|ONLY_)/.test(key ?? "")).map(([, line]) => line);
      expect(ours.sort()).toEqual(expected.sort());
      expect([...found.values()].filter((line) => line.startsWith("IMAGE_"))).toHaveLength(20);
    }
  }
  await node.client.removePodSandbox({ podSandboxId });
});

test("a user that is not valid UTF-8 is left out of answers: clients would reject the list of all images", async () => {
  const image = "localhost/test/half-a-pair:1";
  const layout = await buildBusyboxImage(join(node.directory, "half-a-pair"), image, { User: "\ud800" });
  node.daemon.keelson("image", "load", layout);
  const listed = expect.objectContaining({ repoTags: [image], username: "\ufffd" });
  expect((await node.client.listImages({})).images).toContainEqual(listed);
});
