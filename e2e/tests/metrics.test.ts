// The daemon's metrics, scraped as by Prometheus: counters and gauges are correct, and METRICS.md and the dashboard
// name no other metrics.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const folder = join(import.meta.dirname, "../../cri/metrics");
let node: TestNode;
let url: string;
let port: number;

beforeAll(async () => {
  node = await startNode({
    prepare: async (directory) => {
      await mkdir(join(directory, "config.toml.d"));
      await writeFile(join(directory, "config.toml.d", "metrics.toml"), '[metrics]\naddress = "127.0.0.1:0"\n');
    },
  });
  const line = (await readFile(node.daemon.logFile, "utf8")).split("\n").find((text) => text.includes('"/metrics"'));
  port = Number(JSON.parse(line ?? "{}").port);
  url = `http://127.0.0.1:${port}/metrics`;
});
afterAll(() => node.close());

/** Values by name and labels, as in the text. */
async function scrape(): Promise<Map<string, number>> {
  const response = await fetch(url);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

const handled = (method: string, code: string, service = "RuntimeService") =>
  `grpc_server_handled_total{grpc_type="unary",grpc_service="runtime.v1.${service}",grpc_method="${method}",grpc_code="${code}"}`;
const work = (kind: string, name: string, outcome: string) =>
  `keelson_work_seconds_count{kind="${kind}",name="${name}",outcome="${outcome}"}`;

test("calls, plugins, monitors and pulls are counted with their outcomes, and current objects are reported", async () => {
  const config = node.podConfig("counted");
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  await node.client.execSync({ containerId, cmd: ["true"] });
  await expect(node.client.execSync({ containerId: "0".repeat(64), cmd: ["true"] })).rejects.toThrow();
  await expect(node.client.pullImage({ image: { image: "127.0.0.1:1/nothing:1" } })).rejects.toThrow();

  const metrics = await scrape();
  expect(metrics.get(handled("RunPodSandbox", "OK"))).toBe(1);
  expect(metrics.get(handled("ExecSync", "OK"))).toBe(1);
  expect(metrics.get(handled("ExecSync", "NotFound"))).toBe(1);
  expect(metrics.get(handled("PullImage", "Unknown", "ImageService"))).toBe(1);
  expect(metrics.get(work("plugin", "bridge ADD", "OK"))).toBe(1);
  expect(metrics.get(work("pull", "", "Unknown"))).toBe(1);
  expect(metrics.get(work("registry request", "127.0.0.1:1", "Unavailable"))).toBeGreaterThan(0);
  expect(metrics.get(work("monitor call", "start", "OK"))).toBe(1);
  expect(metrics.get('keelson_sandboxes{state="ready"}')).toBe(1);
  expect(metrics.get('keelson_containers{state="running"}')).toBe(1);
  expect(metrics.get('keelson_network_leases{state="attached"}')).toBe(1);
  expect(metrics.get("keelson_images")).toBe(1);
  expect(metrics.get('keelson_image_store_bytes{part="images"}')).toBeGreaterThan(1_000_000);
  expect(metrics.get("keelson_leftovers")).toBe(0);
  expect(metrics.get('keelson_work_in_progress{kind="call"}')).toBe(0);
  expect(metrics.get("nodejs_eventloop_lag_p99_seconds")).toBeGreaterThan(0);

  await node.client.removePodSandbox({ podSandboxId });
  const after = await scrape();
  expect(after.get('keelson_sandboxes{state="ready"}')).toBe(0);
  expect(after.get(work("plugin", "bridge DEL", "OK"))).toBe(1);
});

test("METRICS.md lists every metric, and the dashboard queries no others", async () => {
  const names = new Set(
    [...(await scrape()).keys()].map((key) => key.replace(/\{.*/, "").replace(/_(bucket|sum|count)$/, "")),
  );
  const ours = [...names].filter((name) => /^(keelson|grpc)_/.test(name));
  const page = await readFile(join(folder, "METRICS.md"), "utf8");
  const documented = [...page.matchAll(/^\| `([a-z_]+)`/gm)].map(([, name]) => name);
  expect(documented.sort()).toEqual(ours.sort());
  const dashboard: { panels: { targets: { expr: string }[] }[] } = JSON.parse(
    await readFile(join(folder, "dashboard.json"), "utf8"),
  );
  const asked = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const unknown = asked
    .flatMap((expr) => expr.match(/\b(keelson|grpc_server|nodejs|process)_[a-z0-9_]+/g) ?? [])
    .filter((name) => !names.has(name.replace(/_(bucket|sum|count)$/, "")));
  expect(asked.length).toBeGreaterThan(10);
  expect(unknown).toEqual([]);
});

test("only /metrics is served, and silent connections are closed", async () => {
  expect((await fetch(url.replace("/metrics", "/"))).status).toBe(404);
  expect((await fetch(url, { method: "POST" })).status).toBe(405);
  const silent = Array.from({ length: 64 }, () => connect(port, "127.0.0.1").on("error", () => undefined));
  await until("connections above the limit are refused", 5_000, async () =>
    silent.filter((socket) => socket.destroyed || socket.readableEnded).length >= 32 ? true : undefined,
  );
  for (const socket of silent) socket.destroy();
  await until("it serves again", 5_000, async () => {
    const response = await fetch(url).catch(() => undefined);
    return response?.status === 200 ? true : undefined;
  });
});

test("a client that pipelines requests is disconnected, and delays no other client", async () => {
  const asking = Array.from({ length: 32 }, () => {
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    socket.resume().write("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(300));
    return socket;
  });
  const { runtimeName } = await node.client.version({}, 3_000);
  expect(runtimeName).toBe("keelson");
  await until("they are disconnected", 5_000, async () =>
    asking.every((socket) => socket.destroyed || socket.readableEnded) ? true : undefined,
  );
  await scrape();
});
