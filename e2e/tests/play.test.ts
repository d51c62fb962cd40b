// keelson play on a real node: invalid manifests, and plays that are interrupted in every way.

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { usePlays } from "../fixtures/plays.ts";
import { until } from "../fixtures/steps.ts";

const { node, play, manifest, pod, expectNothingLeft } = usePlays();

describe("an invalid manifest or command line starts nothing and exits with 2", () => {
  test.each([
    ["a: [", /is not valid YAML/],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x, lifecycle: {postStart: {}}}]}}",
      /spec\.containers\[0\]\.lifecycle\.postStart: not supported by keelson play/,
    ],
    ["{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}", /contains no Pod, Deployment or Job/],
  ])("%s", async (text, sentence) => {
    const { printed, exit } = play(await manifest(text));
    expect(await exit).toBe(2);
    expect(printed.stderr).toMatch(sentence);
    await expectNothingLeft();
  });

  test("no server", async () => {
    const { printed, exit } = play("--socket", join(node().directory, "nobody.sock"), await manifest(pod("p", "true")));
    expect(await exit).toBe(1);
    expect(printed.stderr).toContain("No Keelson daemon answers on");
    await expectNothingLeft();
  });
});

describe("a play is interrupted", () => {
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
    const { items } = await node().client.listPodSandbox({});
    expect(items.map(({ metadata }) => metadata?.name)).toEqual(["two"]);
    player.kill("SIGTERM");
    expect(await exit).toBe(0);
    await expectNothingLeft();
  });

  test("by SIGKILL: its pods keep running, another play of them is refused, --down removes them", async () => {
    const file = await manifest(pod("left", "exec sleep 1000", "volumes: [{name: m, emptyDir: {medium: Memory}}],"));
    const { player, exit, said } = play(file);
    await said(/app: started/);
    const twice = play(file);
    expect(await twice.exit).toBe(1);
    expect(twice.printed.stderr).toContain(`Pod default/left is already being played by process ${player.pid}`);
    player.kill("SIGKILL");
    await exit;
    const again = play(file);
    expect(await again.exit).toBe(1);
    expect(again.printed.stderr).toContain("Pod default/left is left over from a keelson play that was killed");
    expect((await node().client.listPodSandbox({})).items).toHaveLength(1);
    // The running pod's volumes.
    const volumes = join(node().directory, "root/play/default/Pod/left/left/volumes");
    expect(await readdir(volumes)).toEqual(["m"]);
    const down = play("--down", file);
    expect(await down.exit, down.printed.stderr).toBe(0);
    await expectNothingLeft();
    expect(await play("--down", file).exit).toBe(0);
    await expectNothingLeft();
  });

  test("by the exit of the reader of its output", async () => {
    const { player, exit, said } = play("--logs", await manifest(pod("flood", "yes flood | head -c 300000000")));
    await said(/\| flood/);
    player.stdout.destroy();
    expect(await exit).toBe(0);
    await expectNothingLeft();
  });
});

test("if the server is killed during a play, the containers and the play keep running", async () => {
  const { player, printed, exit, said } = play(
    "--logs",
    await manifest(pod("survivor", "for n in $(seq 1000); do echo count $n; sleep 0.2; done")),
  );
  await said(/count 3$/m);
  await node().daemon.kill();
  await said(/runtime: does not answer; containers keep running/);
  await node().daemon.start();
  await said(/runtime: answers again/);
  const numbers = () => [...printed.stdout.matchAll(/count (\d+)$/gm)].map((match) => Number(match[1]));
  const before = numbers().length;
  await until("more counts", 10_000, async () => (numbers().length > before ? true : undefined));
  player.kill("SIGINT");
  expect(await exit, printed.stderr).toBe(0);
  expect(printed.stderr).not.toContain("restarted");
  expect(numbers()).toEqual(Array.from({ length: numbers().length }, (_, index) => index + 1));
  await expectNothingLeft();
});

test("if the server does not come back, leftovers are listed, and --down removes them once there is a server", async () => {
  const file = await manifest(pod("orphan", "exec sleep 1000"));
  const { player, printed, exit, said } = play(file);
  await said(/app: started/);
  await node().daemon.kill();
  player.kill("SIGINT");
  expect(await exit).toBe(1);
  expect(printed.stderr).toContain("Pod default/orphan could not be taken down");
  await node().daemon.start();
  expect(await play("--down", file).exit).toBe(0);
  await expectNothingLeft();
});

test("a missing hostPath is reported repeatedly until it exists", async () => {
  const path = join(node().directory, "late");
  const spec = `volumes: [{name: v, hostPath: {path: "${path}", type: Directory}}],`;
  const { player, printed, exit, said } = play(await manifest(pod("late", "exec sleep 1000", spec)));
  await said(/could not be set up: The volume v cannot use the host path .*late: it does not exist/);
  player.kill("SIGINT");
  expect(await exit, printed.stderr).toBe(1);
  await rm(path, { recursive: true, force: true });
  await expectNothingLeft();
});
