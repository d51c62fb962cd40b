// Records on disk: saved records can be loaded; damage, torn writes and a full disk affect no other record; both
// versions.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isContainerId, newSandboxId } from "./ids.ts";
import { type ContainerRecord, Records, type SandboxRecord } from "./records.ts";
import { containerConfig, sandboxConfig } from "./testing/configs.ts";
import { imageId } from "./testing/scripted-images.ts";

const run = promisify(execFile);

let directory: string;
let records: Records;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-records-"));
  records = await Records.open(directory);
});
afterEach(async () => await rm(directory, { recursive: true, force: true }));

const [a, b] = ["a".repeat(64), "b".repeat(64)];

function containerId(text: string): ContainerRecord["id"] {
  if (!isContainerId(text)) throw new TypeError(`${text} is no id`);
  return text;
}

function container(id: string, exitCode = 0): ContainerRecord {
  return {
    kind: "container",
    id: containerId(id),
    sandboxId: newSandboxId(),
    config: {
      ...containerConfig("c", "i", ["/bin/true"]),
      envs: [{ name: "RAW", value: Buffer.from([0, 255, 128]) }],
      labels: new Map([
        ["__proto__", "x"],
        ["b", "ü"],
      ]),
    },
    createdAt: 1_790_000_000_123_456_789n,
    imageId: imageId(`sha256:${"a".repeat(64)}`),
    user: { uid: 0n, gid: 0n, supplementalGroups: [1n] },
    removing: false,
    stopSignal: "SIGTERM",
    phase: { state: "exited", startedAt: 1n, finishedAt: 2n, exitCode, reason: "Error", message: "" },
  };
}

function sandbox(): SandboxRecord {
  return {
    kind: "sandbox",
    id: newSandboxId(),
    config: sandboxConfig("p"),
    handler: "native",
    createdAt: 1n,
    life: "ready",
    ips: ["10.88.0.1"],
    monitorPid: 7,
    cgroup: "/keelson/p",
    hostname: "p",
    resources: {},
    timeline: [],
  };
}

/** A file of another format version, with a valid checksum. */
async function rewrite(id: string, version: number, change: (body: Record<string, unknown>) => object): Promise<void> {
  const path = join(directory, `${id}.json`);
  const body = JSON.stringify(change(JSON.parse(JSON.parse(await readFile(path, "utf8")).body)));
  const sha256 = createHash("sha256").update(body).digest("hex");
  await writeFile(path, JSON.stringify({ version, sha256, body }));
}

describe("a saved record", () => {
  test("is loaded with bigints, maps and bytes; the last save counts", async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => records.save(container(a, index))));
    const { records: loaded, damaged } = await (await Records.open(directory)).load();
    expect(damaged).toEqual([]);
    expect(loaded).toEqual(
      [container(a, 49)].map((record) => ({
        ...record,
        sandboxId: loaded[0]?.kind === "container" ? loaded[0].sandboxId : "",
      })),
    );
    expect(await readdir(directory)).toEqual([`${a}.json`]);
    await records.remove(a);
    expect(await readdir(directory)).toEqual([]);
  });

  test("is on disk when its save resolves, and `idle` waits for saves that are not awaited", async () => {
    await records.save(container(a, 1));
    expect((await records.load()).records).toMatchObject([{ id: a, phase: { exitCode: 1 } }]);
    void records.save(container(a, 2));
    void records.save(container(b, 3));
    await records.idle();
    const { records: loaded } = await records.load();
    expect(loaded.toSorted((one, other) => one.id.localeCompare(other.id))).toMatchObject([
      { phase: { exitCode: 2 } },
      { phase: { exitCode: 3 } },
    ]);
  });

  test("that is removed at once stays removed", async () => {
    const saving = [records.save(container(a, 1)), records.save(container(a, 2))];
    await records.remove(a);
    await Promise.all(saving);
    await records.idle();
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("files on disk", () => {
  test("damaged and partial files are reported and removed, complete ones stay", async () => {
    await records.save(container(a));
    await records.save(container(b));
    const path = join(directory, `${a}.json`);
    const whole = await readFile(path, "utf8");
    await writeFile(path, whole.replace("bin/true", "bin/evil"));
    await writeFile(join(directory, "empty.json"), "");
    await writeFile(join(directory, "torn.json"), whole.slice(0, whole.length / 2));
    await writeFile(join(directory, "x.new"), "half");
    const { records: loaded, damaged, unreadable } = await records.load();
    expect(loaded.map(({ id }) => id)).toEqual([b]);
    expect(damaged.toSorted()).toEqual([`${a}.json`, "empty.json", "torn.json"]);
    expect(unreadable).toEqual([]);
    expect(await readdir(directory)).toEqual([`${b}.json`]);
  });

  test("each save appends a line, and the last complete one counts; a long file is replaced by a single line", async () => {
    await records.save(container(a, 1));
    await records.save(container(a, 2));
    const path = join(directory, `${a}.json`);
    const [first = "", second = "", ...rest] = (await readFile(path, "utf8")).split("\n");
    expect(rest).toEqual([""]);
    for (const torn of [second.slice(0, second.length / 2), "\0".repeat(second.length), `${second.slice(1)}\n`, ""]) {
      await writeFile(path, `${first}\n${torn}`);
      expect((await records.load()).records).toMatchObject([{ id: a, phase: { exitCode: 1 } }]);
    }
    await writeFile(path, `${first}\n${second.replace('"version":2', '"version":3')}\n`);
    expect(await records.load(), "an older line must not replace one of a newer keelson").toMatchObject({
      records: [],
      damaged: [],
      unreadable: [{ id: a }],
    });

    let longest = 0;
    let shrank = 0;
    for (let exitCode = 0; exitCode < 100; exitCode += 1) {
      await records.save(container(a, exitCode));
      const { length } = await readFile(path);
      if (length < longest) shrank += 1;
      longest = Math.max(longest, length);
    }
    expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 99 } }]);
    expect(longest).toBeLessThanOrEqual(32 << 10);
    expect(shrank).toBeGreaterThan(0);
  });

  test("a daemon does not append to a file of a previous daemon, which may end with a partial line", async () => {
    await records.save(container(a, 1));
    const path = join(directory, `${a}.json`);
    await writeFile(path, (await readFile(path, "utf8")).slice(0, -20));
    const next = await Records.open(directory);
    await next.save(container(a, 2));
    expect((await next.load()).records).toMatchObject([{ phase: { exitCode: 2 } }]);
    await next.save(container(a, 3));
    expect((await readFile(path, "utf8")).split("\n")).toHaveLength(3);
    expect((await next.load()).records).toMatchObject([{ phase: { exitCode: 3 } }]);
  });

  test("an unreadable file is reported and kept, and the others are still read", async () => {
    await records.save(container(b));
    await mkdir(join(directory, `${a}.json`));
    const { records: loaded, damaged, unreadable } = await records.load();
    expect(loaded.map(({ id }) => id)).toEqual([b]);
    expect(damaged).toEqual([]);
    expect(unreadable).toMatchObject([{ id: a, name: `${a}.json`, reason: expect.stringContaining("EISDIR") }]);
    expect((await readdir(directory)).toSorted()).toEqual([`${a}.json`, `${b}.json`]);
  });

  test.each([
    ["null", "null"],
    ["a list", "[]"],
    ["no checksum", JSON.stringify({ version: 2, body: "{}" })],
    [
      "a body that is not an object",
      JSON.stringify({ version: 2, body: "7", sha256: createHash("sha256").update("7").digest("hex") }),
    ],
  ])("%s counts as damaged", async (_, text) => {
    await writeFile(join(directory, `${a}.json`), text);
    expect(await records.load()).toMatchObject({ records: [], damaged: [`${a}.json`], unreadable: [] });
  });
});

describe("versions", () => {
  test("in version 1 a sandbox is ready or stopped, and no operation is in progress", async () => {
    const [ready, stopped] = [sandbox(), sandbox()];
    await Promise.all([ready, stopped, container(a)].map((record) => records.save(record)));
    await rewrite(ready.id, 1, ({ life: _, ...rest }) => ({ ...rest, ready: true }));
    await rewrite(stopped.id, 1, ({ life: _, ...rest }) => ({ ...rest, ready: false }));
    await rewrite(a, 1, ({ removing: _, ...rest }) => rest);
    const { records: loaded, damaged } = await records.load();
    expect(damaged).toEqual([]);
    const byId = new Map(loaded.map((record) => [String(record.id), record]));
    expect(byId.get(ready.id)).toMatchObject({ life: "ready", ips: ["10.88.0.1"] });
    expect(byId.get(stopped.id)).toMatchObject({ life: "stopped" });
    expect(byId.get(a)).toMatchObject({ removing: false });
  });

  test("records of a newer version are kept, with what is known of their pods", async () => {
    const [known, other] = [sandbox(), sandbox()];
    await Promise.all([known, other, container(a)].map((record) => records.save(record)));
    await rewrite(known.id, 3, (body) => body);
    await rewrite(other.id, 3, ({ config: _, ...rest }) => ({ ...rest, configuration: {} }));
    await rewrite(a, 3, (body) => body);
    const { damaged, unreadable } = await records.load();
    expect(damaged).toEqual([]);
    const { name, namespace, uid } = known.config.metadata;
    const reason = expect.stringContaining("a newer keelson wrote it, in version 3");
    const byId = new Map(unreadable.map(({ id, name: _, ...rest }) => [id, rest]));
    expect(byId.get(known.id)).toEqual({ reason, pod: { name, namespace, uid } });
    expect(byId.get(other.id)).toEqual({ reason });
    expect(byId.get(a)).toEqual({ reason, sandboxId: expect.any(String) });
    expect(await readdir(directory)).toHaveLength(3);
  });

  test("a version that no keelson writes counts as damage", async () => {
    await records.save(container(a));
    await rewrite(a, 0, (body) => body);
    expect((await records.load()).damaged).toEqual([`${a}.json`]);
  });
});

describe("a disk that cannot be written", () => {
  test("a partial line from a full disk does not corrupt the next line", async () => {
    await run("mount", ["-t", "tmpfs", "-o", "size=16k", "tmpfs", directory]);
    try {
      await records.save(container(a, 1));
      // Not a record file, so reading the records does not remove it.
      const ballast = join(directory, "ballast.json");
      await mkdir(ballast);
      await writeFile(join(ballast, "ballast"), "x".repeat(8 << 10));
      const failed: number[] = [];
      for (let exitCode = 2; exitCode < 10; exitCode += 1)
        await records.save(container(a, exitCode)).catch(() => failed.push(exitCode));
      expect(failed).toContain(9);
      const stands = Math.min(...failed) - 1;
      expect((await records.load()).records).toMatchObject([{ phase: { exitCode: stands } }]);
      await rm(ballast, { recursive: true });
      await records.save(container(a, 20));
      expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 20 } }]);
      await records.save(container(a, 21));
      expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 21 } }]);
    } finally {
      await run("umount", [directory]);
    }
  });

  test("a save that waits for one that fails is written all the same", async () => {
    await run("mount", ["-t", "tmpfs", "-o", "size=16k", "tmpfs", directory]);
    try {
      const tooLarge = { ...container(a, 1), stopSignal: "x".repeat(32 << 10) };
      const failing = expect(records.save(tooLarge)).rejects.toThrow("ENOSPC");
      // Its write begins in a microtask, and takes longer.
      for (let turns = 0; turns < 10; turns += 1) await Promise.resolve();
      await records.save(container(a, 2));
      await failing;
      expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 2 } }]);
    } finally {
      await run("umount", [directory]);
    }
  });

  test("fails the save and keeps the previous record; the next save succeeds", async () => {
    await records.save(container(a, 1));
    // The new file can be created but not renamed into place.
    await rename(join(directory, `${a}.json`), join(directory, "aside"));
    await mkdir(join(directory, `${a}.json`, "in-the-way"), { recursive: true });
    await expect(records.save(container(a, 2))).rejects.toThrow(/EISDIR|ENOTEMPTY/);
    expect((await readdir(directory)).toSorted(), "no draft is left").toEqual([`${a}.json`, "aside"]);
    await rm(join(directory, `${a}.json`), { recursive: true });
    await rename(join(directory, "aside"), join(directory, `${a}.json`));
    expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 1 } }]);
    await records.save(container(a, 3));
    expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 3 } }]);
  });

  test("fails all waiting saves of a record, blocks no other record, and lets `idle` resolve", async () => {
    await rm(directory, { recursive: true });
    const saves = [container(a, 1), container(a, 2), container(b)].map((record) => records.save(record));
    expect((await Promise.allSettled(saves)).map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    await records.idle();
    await mkdir(directory);
    await records.save(container(a, 4));
    expect((await records.load()).records).toMatchObject([{ phase: { exitCode: 4 } }]);
  });
});
