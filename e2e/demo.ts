// `npm run demo`: an end-to-end demonstration on this machine: starts a server, loads an image and plays demo.yaml.
//
// Everything it creates is in one temporary directory and one bridge, and is removed at the end.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { buildBusyboxImage } from "./fixtures/busybox-image.ts";
import { connectCri } from "./fixtures/client.ts";
import { type Daemon, startDaemon } from "./fixtures/daemon.ts";

const bridge = "keelson-demo0";
const manifest = join(import.meta.dirname, "demo.yaml");
const began = performance.now();

const directory = await mkdtemp(join(tmpdir(), "keelson-demo-"));
const daemon = await startDaemon({ directory, network: { bridge, subnet: "10.98.76.0/24" } });
try {
  say(`The server is running: CRI v1 on ${daemon.socket}`);
  const image = "localhost/demo/busybox:1";
  daemon.keelson("image", "load", await buildBusyboxImage(join(directory, "busybox-image"), image));
  say(`The image ${image} is loaded, built from Debian's busybox-static.`);
  await playManifest(daemon);
} finally {
  await daemon.stop();
  execFileSync("ip", ["link", "delete", bridge], { stdio: "ignore" });
  await rm(directory, { recursive: true, force: true });
}
say(`Everything has been removed. The demo took ${((performance.now() - began) / 1000).toFixed(1)} s.`);

async function playManifest({ socket }: Daemon): Promise<void> {
  say(`$ keelson play --logs ${relative(process.cwd(), manifest)}`);
  const keelson = join(import.meta.dirname, "../cri/keelson");
  const root = join(directory, "root");
  const player = spawn(keelson, ["--socket", socket, "--root", root, "play", "--logs", manifest]);
  const exited = once(player, "exit");
  player.stderr.pipe(process.stderr);
  await new Promise<void>((resolve, reject) => {
    let output = "";
    player.stdout.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk);
      output += chunk.toString();
      if (output.includes("shared network")) resolve();
    });
    exited.then(([code]) => reject(new Error(`keelson play exited with ${code}`)));
  });

  say(`An exec in web prints: ${await execInWeb(socket)}`);
  const page = await fetch("http://127.0.0.1:18080/");
  say(`Port 18080 of this host answers: ${(await page.text()).trim()}`);
  say("Now Ctrl-C:");
  player.kill("SIGINT");
  const [code] = await exited;
  if (code !== 0) throw new Error(`keelson play exited with ${code}`);
}

async function execInWeb(socket: string): Promise<string> {
  const client = connectCri(socket);
  try {
    const labelSelector = { "io.kubernetes.container.name": "web" };
    const { containers } = await client.listContainers({ filter: { labelSelector } });
    const cmd = ["sh", "-c", "echo $(id -un) in $(hostname), PID $$"];
    const { stdout } = await client.execSync({ containerId: containers[0]?.id ?? "", cmd });
    return Buffer.from(stdout).toString().trim();
  } finally {
    client.close();
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
