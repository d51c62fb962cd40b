// Containers' writable layers: the lifetime of their image's layers, and the reported usage.

import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { type Host, loadHost, orAborted } from "../native/index.ts";
import { pushImage, tinyImage } from "./testing/build-image.ts";
import { useRegistryStore } from "./testing/registry-store.ts";
import { listStore, openTestStore } from "./testing/store.ts";

const run = promisify(execFile);
const never = new AbortController().signal;
const { it, registry } = useRegistryStore();

test("a container's layers outlive the image", async () => {
  const image = tinyImage("used");
  await pushImage(registry(), "used", image, "latest");
  const pulled = await it().store.pull(`${registry().address}/used`, undefined, never);
  const snapshot = await it().store.prepareSnapshot("ab12", pulled.id);
  await writeFile(path.join(snapshot.upper, "data"), Buffer.alloc(100_000));
  expect((await stat(snapshot.upper)).mode & 0o7777).toBe(0o755);
  await expect(it().store.prepareSnapshot("ab12", pulled.id)).rejects.toMatchObject({ code: "AlreadyExists" });
  await expect(it().store.prepareSnapshot("../x", pulled.id)).rejects.toMatchObject({ code: "InvalidArgument" });

  await it().store.remove(image.id);
  await expect(it().store.prepareSnapshot("ab13", pulled.id)).rejects.toMatchObject({ code: "NotFound" });
  expect(await readFile(path.join(snapshot.lower[0] ?? "", "etc/used"), "utf8")).toBe("used");
  expect((await it().store.snapshotUse("ab12")).usedBytes).toBeGreaterThanOrEqual(100_000n);

  await it().store.close();
  const again = await it().reopen();
  expect(again.store.snapshots()).toEqual(["ab12"]);
  expect(await readFile(path.join(snapshot.lower[0] ?? "", "etc/used"), "utf8")).toBe("used");
  await again.store.removeSnapshot("ab12");
  await again.store.removeSnapshot("ab12");
  await expect(again.store.snapshotUse("ab12")).rejects.toMatchObject({ code: "NotFound" });
  expect(await listStore(it().root)).not.toContain(`layers/${image.layers[0]?.diffId.slice(7)}`);
  await again.dispose();
});

test("creating a writable layer on a missing image layer fails and leaves nothing behind", async () => {
  const image = tinyImage("lost");
  await pushImage(registry(), "lost", image, "latest");
  const pulled = await it().store.pull(`${registry().address}/lost`, undefined, never);
  await rm(pulled.layers[0] ?? "", { recursive: true });
  await expect(it().store.prepareSnapshot("ab12", pulled.id)).rejects.toMatchObject({ name: "layerMissing" });
  expect(it().store.snapshots()).toEqual([]);
  expect(await readdir(path.join(it().root, "containers"))).toEqual([]);
});

test("a writable layer that cannot be removed disappears anyway, and is removed from disk later", async () => {
  const image = tinyImage("held");
  await pushImage(registry(), "held", image, "latest");
  const pulled = await it().store.pull(`${registry().address}/held`, undefined, never);
  const staging = () => readdir(path.join(it().root, "staging"));
  const before = await staging();
  for (const id of ["ab01", "ab02"]) {
    const { upper } = await it().store.prepareSnapshot(id, pulled.id);
    await mkdir(path.join(upper, "held"));
  }
  await run("mount", ["-t", "tmpfs", "tmpfs", path.join(it().root, "containers/ab01/upper/held")]);
  try {
    await it().store.removeSnapshot("ab01");
    expect(it().store.snapshots()).toEqual(["ab02"]);
    expect(it().problems).toEqual([expect.stringContaining("removal is retried")]);
  } finally {
    const { stdout } = await run("findmnt", ["--raw", "--noheadings", "--output", "TARGET", "--type", "tmpfs"]);
    const mount = stdout.split("\n").find((target) => target.startsWith(it().root)) ?? "";
    await run("umount", [mount]);
  }
  await it().store.removeSnapshot("ab02");
  expect(await staging()).toEqual(before);
});

test("use of writable layers skips one that is being created or removed", async () => {
  const image = tinyImage("layers");
  await pushImage(registry(), "layers", image, "latest");
  const pulled = await it().store.pull(`${registry().address}/layers`, undefined, never);
  const [gone, kept] = [
    await it().store.prepareSnapshot("ab01", pulled.id),
    await it().store.prepareSnapshot("ab02", pulled.id),
  ];
  await writeFile(path.join(kept.upper, "data"), Buffer.alloc(100_000));
  const { usedBytes } = await it().store.snapshotUse("ab02");
  await rm(gone.upper, { recursive: true });
  expect((await it().store.fileSystemUse()).containers.usedBytes).toBe(usedBytes);
});

test("use of writable layers includes the last value of one whose measurement takes long", async () => {
  let now = 0;
  let hold: Promise<void> | undefined;
  const host = loadHost();
  const slow: Host = {
    ...host,
    async diskUsage(file) {
      await hold;
      return await host.diskUsage(file);
    },
  };
  const other = await openTestStore({ now: () => now, host: slow });
  const image = tinyImage("slow");
  await pushImage(registry(), "slow", image, "latest");
  const pulled = await other.store.pull(`${registry().address}/slow`, undefined, never);
  const { upper } = await other.store.prepareSnapshot("ab01", pulled.id);
  const before = await other.store.snapshotUse("ab01");
  await writeFile(path.join(upper, "data"), Buffer.alloc(100_000));
  now = 20_000;
  const { promise, resolve } = Promise.withResolvers<void>();
  hold = promise;
  expect(await other.store.snapshotUse("ab01")).toEqual(before);
  expect((await other.store.fileSystemUse()).containers.usedBytes).toBe(before.usedBytes);
  resolve();
  expect((await other.store.snapshotUse("ab01")).usedBytes).toBeGreaterThanOrEqual(100_000n);
  await other.dispose();
});

test("use of writable layers skips one that takes long and was never measured", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const host = loadHost();
  const slow: Host = {
    ...host,
    async diskUsage(file) {
      if (file.includes("ab01")) await promise;
      return await host.diskUsage(file);
    },
  };
  const other = await openTestStore({ host: slow });
  const image = tinyImage("unmeasured");
  await pushImage(registry(), "unmeasured", image, "latest");
  const pulled = await other.store.pull(`${registry().address}/unmeasured`, undefined, never);
  for (const id of ["ab01", "ab02"]) await other.store.prepareSnapshot(id, pulled.id);
  const { usedBytes } = await other.store.snapshotUse("ab02");
  const inTime = AbortSignal.timeout(10_000);
  for (const _ of ["first", "again"]) {
    const use = orAborted(other.store.fileSystemUse(), inTime);
    await expect(orAborted(other.store.snapshotUse("ab01"), inTime)).rejects.toMatchObject({ code: "Unavailable" });
    expect((await use).containers.usedBytes).toBe(usedBytes);
  }
  resolve();
  await expect.poll(async () => (await other.store.snapshotUse("ab01")).usedBytes).toBe(usedBytes);
  await other.dispose();
});

test("use of writable layers includes the last value of one that cannot be measured, which is reported once", async () => {
  let now = 0;
  const other = await openTestStore({ now: () => now });
  const image = tinyImage("damaged");
  await pushImage(registry(), "damaged", image, "latest");
  const pulled = await other.store.pull(`${registry().address}/damaged`, undefined, never);
  const [damaged, whole] = [
    await other.store.prepareSnapshot("ab01", pulled.id),
    await other.store.prepareSnapshot("ab02", pulled.id),
  ];
  for (const { upper } of [damaged, whole]) await writeFile(path.join(upper, "data"), Buffer.alloc(100_000));
  const before = await other.store.fileSystemUse();
  // Unreadable, as on a damaged file system.
  await rm(path.dirname(damaged.upper), { recursive: true });
  await writeFile(path.dirname(damaged.upper), "");
  for (now of [20_000, 40_000]) {
    expect((await other.store.fileSystemUse()).containers.usedBytes).toBe(before.containers.usedBytes);
    expect((await other.store.snapshotUse("ab01")).timestamp).toBe(0n);
  }
  expect(other.problems).toEqual([expect.stringContaining(path.dirname(damaged.upper))]);
  await other.dispose();
});

test("use of a writable layer is measured again only when the last value is old or the clock was set back", async () => {
  let now = Date.now();
  const other = await openTestStore({ now: () => now });
  await pushImage(registry(), "measured", tinyImage("measured"), "latest");
  const pulled = await other.store.pull(`${registry().address}/measured`, undefined, never);
  const { upper } = await other.store.prepareSnapshot("abc", pulled.id);
  const first = await other.store.snapshotUse("abc");
  await writeFile(path.join(upper, "data"), Buffer.alloc(1_000_000));
  expect(await other.store.snapshotUse("abc")).toEqual(first);
  now += 11_000;
  const second = await other.store.snapshotUse("abc");
  expect(second.usedBytes - first.usedBytes).toBeGreaterThanOrEqual(1_000_000n);
  expect((await other.store.fileSystemUse()).containers.usedBytes).toBe(second.usedBytes);
  await writeFile(path.join(upper, "more"), Buffer.alloc(1_000_000));
  now -= 3_600_000;
  const third = await other.store.snapshotUse("abc");
  expect(third.usedBytes - second.usedBytes).toBeGreaterThanOrEqual(1_000_000n);
  await other.dispose();
});
