// The pod model's mechanics without any pod: undo, queue, single flight, events, records, ids, signals.

import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { EventHub } from "./events.ts";
import { findIfAny, newSandboxId, requireById } from "./ids.ts";
import { PodQueue } from "./queue.ts";
import { type ContainerRecord, Records } from "./records.ts";
import { signalNumber } from "./signals.ts";
import { SingleFlight } from "./single-flight.ts";
import { containerConfig } from "./testing/configs.ts";
import type { PodEvent } from "./types.ts";
import { UndoStack } from "./undo.ts";

const never = new AbortController().signal;

describe("undo stack", () => {
  test("runs last first, goes on past failures and hangs, and names them", async () => {
    const order: string[] = [];
    const undo = new UndoStack(50);
    undo.push("first", async () => void order.push("first"));
    undo.push("hangs", async () => await new Promise(() => undefined));
    undo.push("fails", async () => {
      order.push("fails");
      throw new Error("no");
    });
    undo.push("last", async () => void order.push("last"));
    expect(await undo.unwind()).toEqual([
      { step: "fails", reason: "no" },
      { step: "hangs", reason: "not done within 50 ms" },
    ]);
    expect(order).toEqual(["last", "fails", "first"]);
    expect(await undo.unwind()).toEqual([]);
  });
});

describe("pod queue", () => {
  test("one at a time, in order, past a failure", async () => {
    const queue = new PodQueue();
    const log: string[] = [];
    const work =
      (name: string, fails = false) =>
      async () => {
        log.push(`${name} begins`);
        await delay(5);
        log.push(`${name} ends`);
        if (fails) throw new Error(name);
      };
    const all = [work("a"), work("b", true), work("c")].map((one) => queue.run("pod", "step", never, 1000, one));
    await Promise.allSettled(all);
    expect(log).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
    expect(queue.idle).toBe(true);
  });

  test("who waits too long or gives up leaves, and its work never starts", async () => {
    const queue = new PodQueue();
    let open: () => void = () => undefined;
    const held = queue.run(
      "pod",
      "the slow one",
      never,
      1000,
      async () => await new Promise<void>((resolve) => (open = resolve)),
    );
    let started = 0;
    const count = async () => {
      started += 1;
    };
    await expect(queue.run("pod", "late", never, 20, count)).rejects.toThrow("the slow one");
    const giveUp = new AbortController();
    const leaving = queue.run("pod", "left", giveUp.signal, 1000, count);
    giveUp.abort();
    await expect(leaving).rejects.toMatchObject({ code: "Cancelled" });
    open();
    await held;
    await queue.run("pod", "next", never, 1000, count);
    expect(started).toBe(1);
  });
});

describe("single flight", () => {
  test("callers with one key share the work; the next flight is a new one", async () => {
    let runs = 0;
    const flights = new SingleFlight<number>(() => undefined);
    const start = async () => {
      await delay(10);
      runs += 1;
      return runs;
    };
    const both = await Promise.all([
      flights.run("k", "o", "s", never, start),
      flights.run("k", "o", "s", never, start),
    ]);
    expect(both).toEqual([1, 1]);
    expect(await flights.run("k", "o", "s", never, start)).toBe(2);
  });

  test("a caller that gives up leaves the work; a retry in time gets its result", async () => {
    const unclaimed: string[] = [];
    const flights = new SingleFlight<string>((result) => unclaimed.push(result));
    const start = async () => {
      await delay(40);
      return "made once";
    };
    const giveUp = new AbortController();
    const first = flights.run("k", "pod p", "starting", giveUp.signal, start);
    giveUp.abort();
    await expect(first).rejects.toThrow("the retry gets its result");
    expect(await flights.run("k", "pod p", "starting", never, async () => "made twice")).toBe("made once");
    expect(unclaimed).toEqual([]);
  });

  test("a result that nobody waits for is handed over", async () => {
    const unclaimed: string[] = [];
    const flights = new SingleFlight<string>((result) => unclaimed.push(result));
    const giveUp = new AbortController();
    const only = flights.run("k", "o", "s", giveUp.signal, async () => {
      await delay(20);
      return "orphan";
    });
    giveUp.abort();
    await expect(only).rejects.toThrow();
    await delay(40);
    expect(unclaimed).toEqual(["orphan"]);
  });
});

describe("events", () => {
  const unwanted = () => expect.unreachable();
  const event = (containerId: string): PodEvent => ({ containerId, type: "started", createdAt: 1n, containers: [] });

  test("a reader gets what is published after it subscribed, in order", async () => {
    const hub = new EventHub();
    const leave = new AbortController();
    const events = hub.subscribe(leave.signal, unwanted);
    for (const id of ["a", "b", "c"]) hub.publish(event(id));
    const got: string[] = [];
    for await (const { containerId } of events) {
      got.push(containerId);
      if (got.length === 3) leave.abort();
    }
    expect(got).toEqual(["a", "b", "c"]);
  });

  test("a reader that is too far behind is ended, and holds nobody up", async () => {
    const hub = new EventHub();
    const leave = new AbortController();
    const [slow, quick] = [hub.subscribe(leave.signal, (reason) => leave.abort(reason)), new AbortController()];
    const read = hub.subscribe(quick.signal, unwanted)[Symbol.asyncIterator]();
    for (let index = 0; index < 1500; index += 1) {
      hub.publish(event(String(index)));
      expect((await read.next()).value?.containerId).toBe(String(index));
    }
    quick.abort();
    expect(leave.signal.reason).toMatchObject({ code: "ResourceExhausted" });
    expect((await slow[Symbol.asyncIterator]().next()).done, "a gap would not be seen").toBe(true);
  });
});

describe("records", () => {
  const record = (id: string, exitCode: number): ContainerRecord => ({
    kind: "container",
    id: asContainer(id),
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
    imageId: asImage(),
    user: { uid: 0n, gid: 0n, supplementalGroups: [1n] },
    removing: false,
    stopSignal: "SIGTERM",
    phase: { state: "exited", startedAt: 1n, finishedAt: 2n, exitCode, reason: "Error", message: "" },
  });
  const asContainer = (text: string): ContainerRecord["id"] => requireBrand<ContainerRecord["id"]>(text);
  const asImage = (): ContainerRecord["imageId"] =>
    requireBrand<ContainerRecord["imageId"]>(`sha256:${"a".repeat(64)}`);
  function requireBrand<Brand extends string>(text: string): Brand {
    const is = (value: string): value is Brand => value.length > 0;
    if (!is(text)) throw new TypeError("empty");
    return text;
  }

  test("what is saved is loaded, with bigints, maps and bytes; the last save counts", async () => {
    const directory = await mkdtemp(join(tmpdir(), "keelson-records-"));
    const records = await Records.open(directory);
    const id = "c".repeat(64);
    await Promise.all(Array.from({ length: 50 }, (_, index) => records.save(record(id, index))));
    const { records: loaded, damaged } = await (await Records.open(directory)).load();
    expect(damaged).toEqual([]);
    expect(loaded).toHaveLength(1);
    const [only] = loaded;
    expect(only).toMatchObject({ id, createdAt: 1_790_000_000_123_456_789n, phase: { exitCode: 49 } });
    expect(only?.config.labels).toEqual(
      new Map([
        ["__proto__", "x"],
        ["b", "ü"],
      ]),
    );
    expect(only?.kind === "container" && only.config.envs[0]?.value.equals(Buffer.from([0, 255, 128]))).toBe(true);
    expect(await readdir(directory)).toEqual([`${id}.json`]);
    await records.remove(id);
    expect(await readdir(directory)).toEqual([]);
    await rm(directory, { recursive: true });
  });

  test("damaged and half-written files are named and go, whole ones stay", async () => {
    const directory = await mkdtemp(join(tmpdir(), "keelson-records-"));
    const records = await Records.open(directory);
    await records.save(record("a".repeat(64), 0));
    await records.save(record("b".repeat(64), 0));
    const path = join(directory, `${"a".repeat(64)}.json`);
    const whole = await import("node:fs/promises").then(async (fs) => await fs.readFile(path, "utf8"));
    await writeFile(path, whole.replace("bin/true", "bin/evil"));
    await writeFile(join(directory, "empty.json"), "");
    await writeFile(join(directory, "x.new"), "half");
    const { records: loaded, damaged } = await records.load();
    expect(loaded.map(({ id }) => id)).toEqual(["b".repeat(64)]);
    expect(damaged.toSorted()).toEqual([`${"a".repeat(64)}.json`, "empty.json"]);
    expect(await readdir(directory)).toEqual([`${"b".repeat(64)}.json`]);
    await rm(directory, { recursive: true });
  });
});

describe("ids", () => {
  const items = new Map(["abc1", "abc2", "def3"].map((id) => [id, id]));

  test("a unique prefix finds, an ambiguous one is an error, an empty one too", () => {
    expect(requireById(items, "d", "sandbox")).toBe("def3");
    expect(requireById(items, "abc1", "sandbox")).toBe("abc1");
    expect(() => requireById(items, "abc", "container")).toThrow("more than one container");
    expect(() => requireById(items, "x", "container")).toThrow("does not exist");
    expect(findIfAny(items, "x", "container")).toBeUndefined();
    expect(() => findIfAny(items, "", "container")).toThrow("names no container");
  });

  test("ids are 64 hex digits and differ", () => {
    expect(newSandboxId()).toMatch(/^[0-9a-f]{64}$/);
    expect(newSandboxId()).not.toBe(newSandboxId());
  });
});

test.each([
  ["SIGTERM", 15],
  ["term", 15],
  ["9", 9],
  ["SIGRTMIN+3", 37],
  ["SIGRTMINPLUS3", 37],
  ["SIGRTMAXMINUS1", 63],
  ["SIGRTMAX", 64],
  ["SIGCLD", 17],
  ["SIGPOLL", 29],
  ["SIGNONE", undefined],
  ["SIGRTMIN+40", undefined],
  ["0", undefined],
  ["RUNTIME_DEFAULT", undefined],
])("the signal %s is number %s", (name, number) => {
  expect(signalNumber(name)).toBe(number);
});
