// `npm run picture`: generates e2e/status.svg, the output of `keelson status` on a busy node with a problem.
//
// The node is real: running pods, one whose container has exited, one whose network plugin fails its DEL, one whose
// plugin hangs in its ADD, and a pull from a registry that does not answer. Everything except the picture is removed.

import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenOnLoopback } from "../image/testing/listen.ts";
import { startPod } from "./bench/pod.ts";
import { buildBusyboxImage } from "./fixtures/busybox-image.ts";
import { connectCri } from "./fixtures/client.ts";
import { type Daemon, startDaemon } from "./fixtures/daemon.ts";
import { until } from "./fixtures/steps.ts";

const bridge = "keelson-picture";
const image = "localhost/shop/web:1";
const running = 12;
const waitMs = 20_000;
const terminalColumns = 104;

const directory = await mkdtemp(join(tmpdir(), "keelson-"));
const order = join(directory, "order");
const plugins = join(directory, "plugins");
await mkdir(plugins);
const daemon = await startDaemon({
  directory,
  network: { bridge, subnet: "10.98.77.0/24" },
  pluginDirectories: [plugins, "/usr/lib/cni"],
});
try {
  await addFailingPlugin();
  const screen = await busyScreen(daemon);
  await writeFile(join(import.meta.dirname, "status.svg"), draw(["$ keelson status", ...onTerminal(screen)]));
  process.stdout.write(screen);
} finally {
  await daemon.stop();
  execFileSync("ip", ["link", "delete", bridge], { stdio: "ignore" });
  await rm(directory, { recursive: true, force: true });
}

/** Appends a plugin to the network: its ADD hangs, and its DEL fails, if the order file says so. */
async function addFailingPlugin(): Promise<void> {
  const script = `#!/bin/sh
[ $CNI_COMMAND = ADD ] && grep -q hang ${order} 2>/dev/null && exec sleep 600
[ $CNI_COMMAND = DEL ] && grep -q fail ${order} 2>/dev/null && { echo '{"code": 100, "msg": "the gateway answers 503"}'; exit 1; }
[ $CNI_COMMAND = ADD ] && sed 's/.*"prevResult":\\({.*}\\)}$/\\1/'
exit 0
`;
  await writeFile(join(plugins, "edge-firewall"), script);
  await chmod(join(plugins, "edge-firewall"), 0o755);
  const network = JSON.parse(await readFile(daemon.networkFile, "utf8"));
  network.plugins.push({ type: "edge-firewall" });
  await writeFile(daemon.networkFile, JSON.stringify(network));
}

async function busyScreen(daemon: Daemon): Promise<string> {
  const { socket, keelson } = daemon;
  keelson("image", "load", await buildBusyboxImage(join(directory, "image"), image));
  const registry = createServer(() => undefined);
  const port = await listenOnLoopback(registry);
  const client = connectCri(socket);
  const plan = { image, directory, command: ["sleep", "1000000"] };
  try {
    for (let at = 1; at <= running; at += 1) await startPod(client, { ...plan, name: `web-${at}` });
    await startPod(client, { ...plan, name: "migrate", command: ["true"] });
    const { sandbox } = await startPod(client, { ...plan, name: "cart" });
    await writeFile(order, "fail");
    await client.removePodSandbox({ podSandboxId: sandbox });
    await writeFile(order, "fail hang");
    startPod(client, { ...plan, name: "checkout" }).catch(() => undefined);
    client.pullImage({ image: { image: `127.0.0.1:${port}/shop/web:2` } }).catch(() => undefined);
    return await until("everything is shown", waitMs, async () => {
      const shown = keelson("status");
      return /edge-firewall ADD/.test(shown) && /shop\/web:2/.test(shown) && /1 exited/.test(shown) && /503/.test(shown)
        ? shown
        : undefined;
    });
  } finally {
    client.close();
    registry.close();
    await writeFile(order, "");
    // This kills the hanging plugin.
    await daemon.stop();
    await daemon.start();
    await clear(daemon);
  }
}

async function clear({ socket, keelson }: Daemon): Promise<void> {
  const client = connectCri(socket);
  await until("the node is empty", waitMs, async () => {
    const { items } = await client.listPodSandbox({});
    for (const { id } of items) await client.removePodSandbox({ podSandboxId: id ?? "" });
    const { workTotal, leftoversTotal } = JSON.parse(keelson("status", "--output", "json"));
    return (items.length === 0 && workTotal + leftoversTotal === 0) || undefined;
  });
  client.close();
}

/** Breaks lines like a terminal. */
function onTerminal(text: string): string[] {
  return text
    .trimEnd()
    .split("\n")
    .flatMap((line) => line.match(new RegExp(`.{1,${terminalColumns}}`, "g")) ?? []);
}

function draw(lines: readonly string[]): string {
  const [across, down, margin] = [7.25, 18, 16];
  const width = Math.ceil(Math.max(...lines.map((line) => line.length)) * across + 2 * margin);
  const height = lines.length * down + 2 * margin - 4;
  const texts = lines.map((line, at) => {
    const escaped = line.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    return `<text x="${margin}" y="${margin + 10 + at * down}" fill="${at === 0 ? "#7ee787" : "#e6edf3"}">${escaped}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="ui-monospace, monospace" font-size="12" xml:space="preserve">
<title>keelson status</title>
<rect width="100%" height="100%" rx="6" fill="#0d1117"/>
${texts.join("\n")}
</svg>
`;
}
