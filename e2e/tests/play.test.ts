// keelson play on a real node: manifests with what becomes of them, and plays that are interrupted in every way.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { outcomes } from "../fixtures/manifests/outcomes.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const program = join(import.meta.dirname, "../../cri/keelson");
const manifests = join(import.meta.dirname, "../fixtures/manifests");

let node: TestNode;
const players: ChildProcess[] = [];

beforeAll(async () => {
  node = await startNode();
});

afterAll(async () => {
  await node.close();
});

afterEach(async () => {
  for (const player of players.splice(0)) {
    if (player.exitCode !== null || player.signalCode !== null) continue;
    player.kill("SIGKILL");
    await once(player, "exit");
  }
});

/** A play under way: what it has printed so far, and how it ends. */
function play(...args: readonly string[]) {
  const player = spawn(program, ["--config", join(node.directory, "config.toml"), "play", ...args]);
  players.push(player);
  const printed = { stdout: "", stderr: "" };
  player.stdout.on("data", (chunk: Buffer) => (printed.stdout += chunk.toString()));
  player.stderr.on("data", (chunk: Buffer) => (printed.stderr += chunk.toString()));
  const exit = once(player, "close").then(([code]) => code);
  return {
    player,
    printed,
    exit,
    said: async (words: RegExp) =>
      await until(`${words} from keelson play, which said ${printed.stderr}`, 60_000, async () => {
        if (words.test(printed.stderr) || words.test(printed.stdout)) return true;
        if (player.exitCode !== null) throw new Error(`it ended with ${player.exitCode}: ${printed.stderr}`);
        return undefined;
      }),
  };
}

async function manifest(text: string): Promise<string> {
  const file = join(node.directory, "manifest.yaml");
  await writeFile(file, text);
  return file;
}

/** A pod of one container of shell lines. */
const pod = (name: string, script: string, spec = "") =>
  `{apiVersion: v1, kind: Pod, metadata: {name: ${name}}, spec: {terminationGracePeriodSeconds: 2, ${spec} containers: [{name: app, image: "${node.image}", command: [sh, -c, ${JSON.stringify(script)}]}]}}`;

/** Nothing of any play is left: no sandbox, no file, no mount. */
async function expectNothingLeft(): Promise<void> {
  expect((await node.client.listPodSandbox({})).items).toEqual([]);
  expect(await readdir(join(node.directory, "root", "play")).catch(() => [])).toEqual([]);
  // The server's own: the cgroup of all its pods, and its socket, which is another one after a restart.
  expect((await node.leftovers()).filter((line) => !/^\+ (cgroups|sockets): /.test(line))).toEqual([]);
}

describe("a manifest becomes what a kubelet would make of it", () => {
  test.each(outcomes)("$file", { timeout: 120_000 }, async ({ file, pods, until: words }) => {
    const { player, printed, exit, said } = play("--logs", join(manifests, file));
    if (words !== undefined) {
      await said(words);
      player.kill("SIGINT");
    }
    const all = Object.values(pods);
    expect(await exit, printed.stderr).toBe(
      all.every(({ phase }) => phase === "Succeeded" || phase === "Running") ? 0 : 1,
    );
    for (const [name, { phase, reason, containers }] of Object.entries(pods)) {
      const [line = ""] = printed.stderr.match(new RegExp(`^Pod default/${name}: .*$`, "m")) ?? [];
      expect(line).toContain(`: ${phase}${reason === undefined ? ";" : ` (${reason});`}`);
      for (const [container, { exitCode, restarts, log }] of Object.entries(containers)) {
        expect(line).toMatch(new RegExp(`; ${container} [^;]*, ${restarts} restarts`));
        if (exitCode !== undefined) expect(line).toContain(`; ${container} exit ${exitCode}, `);
        const prefix = `default/${name}/${container} | `;
        const lines = printed.stdout.split("\n").filter((text) => text.startsWith(prefix));
        if (log !== undefined) expect(lines.map((text) => text.slice(prefix.length))).toEqual(log);
      }
    }
    await expectNothingLeft();
  });

  test("a port of the host, answered", async () => {
    const file = await manifest(
      pod("port", "echo hello > /index.html; exec httpd -f -p 80 -h /").replace(
        "name: app,",
        "name: app, ports: [{containerPort: 80, hostPort: 18433}],",
      ),
    );
    const { player, exit, said } = play(file);
    await said(/app: started/);
    const page = await until(
      "a page",
      10_000,
      async () => await fetchPage("http://127.0.0.1:18433/").catch(() => undefined),
    );
    expect(page).toBe("hello\n");
    player.kill("SIGINT");
    expect(await exit).toBe(0);
    await expectNothingLeft();
  });
});

async function fetchPage(url: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString())).on("end", () => resolve(text));
    }).on("error", reject);
  });
}

describe("what is wrong starts nothing and exits 2", () => {
  test.each([
    ["a: [", /not YAML/],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x, lifecycle: {postStart: {}}}]}}",
      /spec\.containers\[0\]\.lifecycle\.postStart: not supported by keelson play/,
    ],
    ["{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}", /holds no Pod, Deployment or Job/],
  ])("%s", async (text, sentence) => {
    const { printed, exit } = play(await manifest(text));
    expect(await exit).toBe(2);
    expect(printed.stderr).toMatch(sentence);
    await expectNothingLeft();
  });

  test("no server", async () => {
    const { printed, exit } = play("--socket", join(node.directory, "nobody.sock"), await manifest(pod("p", "true")));
    expect(await exit).toBe(1);
    expect(printed.stderr).toContain("No Keelson answers on");
    await expectNothingLeft();
  });
});

describe("a play is ended", () => {
  const stubborn = "trap '' TERM; echo up; while :; do sleep 1; done";

  test("by Ctrl-C twice: without the grace period", async () => {
    const { player, printed, exit, said } = play(
      "--logs",
      await manifest(pod("stubborn", stubborn).replace("Seconds: 2", "Seconds: 300")),
    );
    await said(/\| up/);
    player.kill("SIGINT");
    await said(/taking down/);
    const began = Date.now();
    player.kill("SIGINT");
    expect(await exit, printed.stderr).toBe(0);
    expect(Date.now() - began).toBeLessThan(30_000);
    expect(printed.stderr).toContain("app exit 137");
    await expectNothingLeft();
  });

  test("by --down from elsewhere, of one of its two pods", async () => {
    const [first, second] = [pod("one", "exec sleep 1000"), pod("two", "exec sleep 1000")];
    const { player, exit, said } = play(await manifest(`${first}\n---\n${second}`));
    await said(/one\/app: started[\s\S]*two\/app: started|two\/app: started[\s\S]*one\/app: started/);
    const down = play("--down", await manifest(first));
    expect(await down.exit, down.printed.stderr).toBe(0);
    const { items } = await node.client.listPodSandbox({});
    expect(items.map(({ metadata }) => metadata?.name)).toEqual(["two"]);
    player.kill("SIGTERM");
    expect(await exit).toBe(0);
    await expectNothingLeft();
  });

  test("by SIGKILL: its pods run on, another play of them is refused, --down takes them down", async () => {
    const file = await manifest(pod("left", "exec sleep 1000", "volumes: [{name: m, emptyDir: {medium: Memory}}],"));
    const { player, exit, said } = play(file);
    await said(/app: started/);
    const twice = play(file);
    expect(await twice.exit).toBe(1);
    expect(twice.printed.stderr).toContain(`Pod default/left is being played by the process ${player.pid}`);
    player.kill("SIGKILL");
    await exit;
    const again = play(file);
    expect(await again.exit).toBe(1);
    expect(again.printed.stderr).toContain("Pod default/left is left from a keelson play that was killed");
    expect((await node.client.listPodSandbox({})).items).toHaveLength(1);
    const down = play("--down", file);
    expect(await down.exit, down.printed.stderr).toBe(0);
    await expectNothingLeft();
    expect(await play("--down", file).exit).toBe(0);
    await expectNothingLeft();
  });

  test("by the reader of its output", async () => {
    const { player, exit, said } = play("--logs", await manifest(pod("flood", "yes flood | head -c 300000000")));
    await said(/\| flood/);
    player.stdout.destroy();
    expect(await exit).toBe(0);
    await expectNothingLeft();
  });
});

test("the server is killed in the middle: containers run on, and the play with them", async () => {
  const { player, printed, exit, said } = play(
    "--logs",
    await manifest(pod("survivor", "for n in $(seq 1000); do echo count $n; sleep 0.2; done")),
  );
  await said(/count 3$/m);
  await node.daemon.kill();
  await said(/runtime: it does not answer; containers run on/);
  await node.daemon.start();
  await said(/runtime: it answers again/);
  const numbers = () => [...printed.stdout.matchAll(/count (\d+)$/gm)].map((match) => Number(match[1]));
  const before = numbers().length;
  await until("more counts", 10_000, async () => (numbers().length > before ? true : undefined));
  player.kill("SIGINT");
  expect(await exit, printed.stderr).toBe(0);
  expect(printed.stderr).not.toContain("started again");
  expect(numbers()).toEqual(Array.from({ length: numbers().length }, (_, index) => index + 1));
  await expectNothingLeft();
});

test("the server is gone for good: what is left is named, and --down takes it down once there is one", async () => {
  const file = await manifest(pod("orphan", "exec sleep 1000"));
  const { player, printed, exit, said } = play(file);
  await said(/app: started/);
  await node.daemon.kill();
  player.kill("SIGINT");
  expect(await exit).toBe(1);
  expect(printed.stderr).toContain("Pod default/orphan could not be taken down");
  await node.daemon.start();
  expect(await play("--down", file).exit).toBe(0);
  await expectNothingLeft();
});

test("a hostPath that is missing is said again and again until it is there", async () => {
  const path = join(node.directory, "late");
  const spec = `volumes: [{name: v, hostPath: {path: "${path}", type: Directory}}],`;
  const { player, printed, exit, said } = play(await manifest(pod("late", "exec sleep 1000", spec)));
  await said(/could not be set up: The volume v cannot use .*late of the host: there is nothing/);
  player.kill("SIGINT");
  expect(await exit, printed.stderr).toBe(1);
  await rm(path, { recursive: true, force: true });
  await expectNothingLeft();
});
