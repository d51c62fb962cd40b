// `npm run demo`: the main job end to end on this machine, with a server, an image and a network of its own.
//
// Everything it makes lies in one temporary directory and one bridge, and is gone at the end.

import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { buildBusyboxImage } from "./fixtures/busybox-image.ts";
import { type CriClient, connectCri } from "./fixtures/client.ts";
import { startDaemon } from "./fixtures/daemon.ts";

const bridge = "keelson-demo0";
const began = performance.now();

const directory = await mkdtemp(join(tmpdir(), "keelson-demo-"));
const daemon = await startDaemon({ directory, network: { bridge, subnet: "10.98.76.0/24" } });
try {
  say(`The server is up: CRI v1 on ${daemon.socket}`);
  const image = "localhost/demo/busybox:1";
  const archive = await buildBusyboxImage(join(directory, "busybox-image"), image);
  daemon.keelson("image", "load", archive);
  say(`The image ${image} is in, made on the spot from Debian's busybox-static.`);
  say("While this runs, point crictl at it with:");
  say(`  crictl --runtime-endpoint unix://${daemon.socket} pods`);

  const client = connectCri(daemon.socket);
  try {
    await runPod(client, image, directory);
  } finally {
    client.close();
  }
} finally {
  await daemon.stop();
  execFileSync("ip", ["link", "delete", bridge], { stdio: "ignore" });
  await rm(directory, { recursive: true, force: true });
}
say(`All of it is gone again. ${((performance.now() - began) / 1000).toFixed(1)} s in all.`);

async function runPod(client: CriClient, image: string, root: string): Promise<void> {
  const config = {
    metadata: { name: "demo", namespace: "default", uid: "demo-uid", attempt: 0 },
    hostname: "demo",
    logDirectory: join(root, "logs"),
    linux: {},
  };
  const { podSandboxId } = await client.runPodSandbox({ config });
  try {
    const { status } = await client.podSandboxStatus({ podSandboxId });
    say(`Pod ${podSandboxId.slice(0, 13)} is ready with the IP ${status?.network?.ip}.`);

    const container = async (name: string, script: string): Promise<string> => {
      const { containerId } = await client.createContainer({
        podSandboxId,
        sandboxConfig: config,
        config: {
          metadata: { name, attempt: 0 },
          image: { image },
          command: ["sh", "-c", script],
          logPath: `${name}.log`,
          linux: {},
        },
      });
      await client.startContainer({ containerId });
      return containerId;
    };
    const web = await container(
      "web",
      "echo web: serving on port 8080 of $(hostname); echo hello from web > index.html; exec httpd -f -p 8080 -h .",
    );
    await container(
      "probe",
      "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; echo probe: the page came over the shared network",
    );

    for (const name of ["web", "probe"]) {
      for (const line of await logLines(join(root, "logs", `${name}.log`), name === "web" ? 1 : 2))
        say(`  ${name} | ${line}`);
    }
    const exec = await client.execSync({
      containerId: web,
      cmd: ["sh", "-c", "echo $(id -un) in $(hostname), PID $$"],
    });
    say(`Exec in web says: ${Buffer.from(exec.stdout).toString().trim()}`);
  } finally {
    await client.stopPodSandbox({ podSandboxId });
    await client.removePodSandbox({ podSandboxId });
  }
}

/** The content of a CRI log's lines, once there are `wanted` of them; at most 10 s. */
async function logLines(path: string, wanted: number): Promise<string[]> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const lines = (await readFile(path, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
    if (lines.length >= wanted) return lines.map((line) => line.split(" ").slice(3).join(" "));
    if (Date.now() > deadline) throw new Error(`${path} holds ${lines.length} lines after 10 s, not ${wanted}`);
    await delay(20);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
