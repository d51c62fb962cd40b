// Recovery at start: records in every state, combined with every state of monitor, network and host.

import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import { Records } from "./records.ts";
import type { SandboxLife } from "./sandbox.ts";
import { holdTime, pass, quiet, until, within } from "./testing/clock.ts";
import { podNamespaces, sandboxConfig } from "./testing/configs.ts";
import { makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";
import { expectRemovable, expectTidy, rewriteLife } from "./testing/truth.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

/** How long a daemon may take until it serves, regardless of what it finds. */
const servedMs = 1_100;

/** Changes the format version of a record, which its checksum does not cover. */
async function rewriteVersion(id: string, version: number): Promise<void> {
  const path = join(node().stateDirectory, `${id}.json`);
  await writeFile(path, (await readFile(path, "utf8")).replaceAll(/"version":\d/g, `"version":${version}`));
}

describe("recorded and actual state", () => {
  const lives: readonly SandboxLife[] = ["starting", "ready", "stopping", "stopped"];
  const monitors = ["up", "frozen", "gone"] as const;
  const networks = ["there", "lost", "unknown", "slow"] as const;
  const cases = lives.flatMap((life) =>
    monitors.flatMap((monitor) => networks.map((network) => ({ life, monitor, network }))),
  );

  test.each(cases)("a $life pod, its monitor $monitor, its network $network", async ({ life, monitor, network }) => {
    const before = await node().start();
    const id = await runPod(before);
    // A pod whose start never finished has none.
    const containers = life === "starting" ? [] : [await runContainer(before, id)];
    await node().kill();
    await rewriteLife(node(), id, life);
    if (monitor === "gone") node().monitor(id).dies();
    if (monitor === "frozen") node().monitor(id).freezes();
    if (network === "lost") node().network.loses(id);
    if (network === "unknown") node().script.fail("network inspect", new Error("EMFILE"));
    const inspecting = network === "slow" && life === "ready" ? node().script.hold("network inspect") : undefined;

    const pods = await within(servedMs, node().start());
    const isReady = life === "ready" && monitor !== "gone" && network !== "lost";
    const listed = pods.sandboxes(everything);
    expect(listed.map(({ state }) => state)).toEqual(life === "starting" ? [] : [isReady ? "ready" : "not-ready"]);
    expect(listed.flatMap(({ ips }) => ips)).toEqual(isReady ? ["10.88.0.1"] : []);
    for (const c of containers) {
      // Nothing runs in a completely stopped pod, regardless of its containers' records.
      if (monitor === "gone" || life === "stopped")
        expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
      else expect(pods.container(c).phase.state, "its last known state is kept").toBe("running");
    }

    node().monitor(id).thaws();
    inspecting?.release();
    await within(limits.shutdown * 3, pods.tidy());
    // No daemon leaves a running monitor with a record of a completed stop.
    if (life !== "stopped") await expectTidy(node(), pods);
    expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(
      life === "starting" ? [] : [isReady ? "ready" : "not-ready"],
    );
  });

  test("a pod with host networking has no network to lose", async () => {
    const config = sandboxConfig("p");
    const security = { ...config.security, namespaces: { ...podNamespaces, network: "node" as const } };
    const id = await (await node().start()).runSandbox({ ...config, security }, "", never);
    const recovered = (await node().restart()).sandbox(id);
    expect(recovered.state).toBe("ready");
    expect(recovered.timeline.map(({ stage }) => stage)).toEqual(["files", "monitor"]);
  });

  test("a network that is found missing only after the daemon serves stops the pod then", async () => {
    const id = await runPod(await node().start());
    await node().kill();
    const inspecting = node().script.hold("network inspect");
    const pods = await within(servedMs, node().start());
    expect(pods.sandbox(id).state).toBe("ready");
    node().network.loses(id);
    const events = recordEvents(pods);
    inspecting.release();
    await pods.tidy();
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
    await until("it is reported", () => events.includes("stopped p"));
    await expectTidy(node(), pods);
  });
});

describe("records", () => {
  async function makeUnreadable(id: string): Promise<void> {
    const path = join(node().stateDirectory, `${id}.json`);
    await rename(path, `${path}.aside`);
    await mkdir(path);
  }

  test("a damaged record is removed, and its pod is cleaned up", async () => {
    const first = await node().start();
    const id = await runPod(first);
    await runContainer(first, id);
    await node().kill();
    await writeFile(join(node().stateDirectory, `${id}.json`), "{");
    const pods = await node().start();
    await pods.tidy();
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(node().log.some((line) => line.startsWith(`error the record ${id}.json is damaged`))).toBe(true);
    await expectTidy(node(), pods);
  });

  test("with an unreadable record, its pod, network, layers and containers stay untouched, and the daemon serves", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await runPod(first, "kept");
    await node().kill();
    await makeUnreadable(id);
    const pods = await node().start();
    expect(pods.sandboxes(everything).map(({ config }) => config.metadata.name)).toEqual(["kept"]);
    await pods.tidy();
    expect(node().monitor(id).running).toEqual([c]);
    expect(await node().podDirectories()).toContain(String(id));
    expect(node().images.layers.has(c)).toBe(true);
    expect(await node().record(c)).toMatchObject({ kind: "container" });
    expect(node().network.spared).toContain(id);
    expect(node().log.some((line) => line.includes("cannot be read, so its pod or container is left untouched"))).toBe(
      true,
    );
  });

  test.each(["sandbox", "container"] as const)(
    "a newer keelson's record of a %s: its pod runs on, is not started twice, and is back after an upgrade",
    async (kind) => {
      const first = await node().start();
      const id = await runPod(first);
      const c = await runContainer(first, id);
      await runPod(first, "kept");
      await node().kill();
      await rewriteVersion(kind === "sandbox" ? id : c, 3);

      const older = await node().start();
      expect(older.sandboxes(everything).map(({ config }) => config.metadata.name)).toEqual(["kept"]);
      await older.tidy();
      const nothingChanged = async () => {
        expect(node().monitor(id).running).toEqual([c]);
        expect(await node().podDirectories()).toContain(String(id));
        expect(node().images.layers.has(c)).toBe(true);
      };
      await nothingChanged();
      expect(node().network.spared).toContain(id);
      expect(older.leftAlone()).toContainEqual({
        id,
        pod: expect.stringMatching(/\/p$/),
        reason: expect.stringContaining("a newer keelson wrote it"),
      });
      const refused = { name: "leftAlone", message: expect.stringContaining("upgrade again") };
      // The kubelet knows of no sandbox, and would start one with the first attempt number.
      await expect(runPod(older)).rejects.toMatchObject(refused);
      await expect(older.stopSandbox(id, never)).rejects.toMatchObject(refused);
      await expect(older.removeSandbox(id, never)).rejects.toMatchObject(refused);
      await expect(older.stopContainer(c, 0n, never)).rejects.toMatchObject(refused);
      await expect(older.removeContainer(c, never)).rejects.toMatchObject(refused);
      await older.removeSandbox("0".repeat(64), never);
      await nothingChanged();

      await node().kill();
      await rewriteVersion(kind === "sandbox" ? id : c, 2);
      const newer = await node().start();
      await newer.tidy();
      expect(newer.sandbox(id).state).toBe("ready");
      expect(newer.container(c).phase.state).toBe("running");
      await expectTidy(node(), newer);
    },
  );

  test("a newer keelson's pod whose monitor is gone, as after a reboot, does not prevent its successor", async () => {
    const first = await node().start();
    const id = await runPod(first);
    await node().kill();
    await rewriteVersion(id, 3);
    node().monitor(id).dies();
    const pods = await node().start();
    await pods.tidy();
    expect(pods.sandbox(await runPod(pods)).state).toBe("ready");
  });

  test("an unreadable record of a container: its bundle and layer stay", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await node().kill();
    await makeUnreadable(c);
    const pods = await node().start();
    await pods.tidy();
    expect(pods.containers(everything)).toEqual([]);
    expect(node().images.layers.has(c)).toBe(true);
    expect(await readdir(join(node().podDirectory(id), "containers"))).toEqual([c]);
  });

  test("of a container whose pod has no record are removed", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await first.removeSandbox(id, never);
    const pods = await node().restart();
    await pods.tidy();
    expect(await node().record(c)).toBeUndefined();
    await expectTidy(node(), pods);
  });

  test("with a handler that is no longer configured: the pod is listed and can be stopped, but starts nothing", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await makeContainer(first, id);
    await node().kill();
    const record = await node().record(id);
    if (record?.kind === "sandbox")
      await (await Records.open(node().stateDirectory)).save({ ...record, handler: "kata" });
    const pods = await node().start();
    expect(pods.sandbox(id)).toMatchObject({ state: "ready", runtimeHandler: "kata" });
    await expect(pods.startContainer(c, never)).rejects.toMatchObject({ name: "handlerUnknown" });
    await expectRemovable(node(), pods);
  });
});

describe("exits while no daemon was running", () => {
  test("are reported as recorded by the monitor", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const [a, b] = [await runContainer(first, id, "a"), await runContainer(first, id, "b")];
    await node().kill();
    node().monitor(id).exits(a, { exitCode: 5 });
    node().monitor(id).exits(b, { exitCode: 137, oomKilled: true });
    const pods = await node().start();
    expect(pods.container(a).phase).toMatchObject({ state: "exited", exitCode: 5, reason: "Error" });
    expect(pods.container(b).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "OOMKilled" });
    // Recorded as well, for a daemon that no longer finds the monitor.
    await node().kill();
    node().monitor(id).dies();
    expect((await node().start()).container(a).phase).toMatchObject({ state: "exited", exitCode: 5, reason: "Error" });
  });

  test("of a dead monitor are taken from its exit records, the others are reported as unknown", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const [a, b] = [await runContainer(first, id, "a"), await runContainer(first, id, "b")];
    await node().kill();
    const times = { started_at: "1790000000000000000", finished_at: "1790000001000000000" };
    const exit = { id: a, state: "exited", pid: 7, ...times, exit_code: 5, signal: 0, oom_killed: false, tty: false };
    await mkdir(join(node().podDirectory(id), "exits"));
    await writeFile(join(node().podDirectory(id), "exits", `${a}.json`), JSON.stringify(exit));
    node().monitor(id).dies();
    const pods = await node().start();
    expect(pods.container(a).phase).toMatchObject({
      state: "exited",
      exitCode: 5,
      finishedAt: 1_790_000_001_000_000_000n,
    });
    expect(pods.container(b).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
  });

  test("a start whose answer the daemon did not live to get: the container runs", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await makeContainer(first, id);
    const start = node().script.hold("monitor start");
    first.startContainer(c, never).catch(() => undefined);
    await start.arrived;
    start.act();
    const pods = await node().restart();
    expect(pods.container(c).phase.state).toBe("running");
  });

  test("a container recorded as running but unknown to its monitor has exited, and can be stopped and removed", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await node().kill();
    node().monitor(id).forgets(c);
    const pods = await node().start();
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255 });
    await pods.stopContainer(c, 0n, never);
    await pods.removeContainer(c, never);
    expect(pods.containers(everything)).toEqual([]);
  });

  test("the init of a shared PID namespace: the pod is not ready, and its event is published", async () => {
    const id = await runPod(await node().start());
    await node().kill();
    node().monitor(id).losesInit();
    const pods = await node().start();
    const events = recordEvents(pods);
    await pods.tidy();
    await until("it is reported", () => events.includes("stopped p"));
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
    await until("it is completely stopped", () => node().monitor(id).isGone);
  });
});

test("recovery waits half a second in total for all frozen monitors; their pods stay ready", async () => {
  const first = await node().start();
  const ids = await Promise.all(["a", "b", "c", "d"].map((name) => runPod(first, name)));
  await node().kill();
  for (const id of ids) node().monitor(id).freezes();
  const starting = node().start();
  await until("all monitors are asked", () => node().script.count("monitor state") === ids.length);
  await quiet();
  await pass(500);
  const pods = await starting;
  expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(ids.map(() => "ready"));
});
