// Logs that grow large are rotated, at the real pace.

import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { rotateLog } from "./log-rotation.ts";

const limit = 10 << 20;

test("a log is renamed and opened again when it has reached 10 MiB, and left alone below", async () => {
  const directory = await mkdtemp(join(tmpdir(), "keelson-rotation-"));
  const over = new AbortController();
  const reopened: string[] = [];
  const follow = async (id: string, bytes: number) => {
    const path = join(directory, id);
    await writeFile(path, "newest\n");
    await truncate(path, bytes);
    await writeFile(`${path}.1`, "older\n");
    const reopenContainerLog = async () => {
      reopened.push(id);
      await writeFile(path, "");
      throw new Error("the call may fail, and is not repeated for the new, small log");
    };
    return rotateLog({ reopenContainerLog }, id, path, over.signal);
  };
  const rotations = [follow("small", limit - 1), follow("large", limit)];
  try {
    await expect.poll(() => reopened, { timeout: 30_000 }).toEqual(["large"]);
    expect((await stat(join(directory, "large.1"))).size).toBe(limit);
    expect(await readFile(join(directory, "small.1"), "utf8")).toBe("older\n");
    expect(existsSync(join(directory, "large.2"))).toBe(false);
  } finally {
    over.abort();
    await Promise.all(rotations);
    await rm(directory, { recursive: true });
  }
});
