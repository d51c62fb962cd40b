// The cost of finding a previous daemon's plugins: each scan reads the environment of every process on the host,
// including those of containers.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { memoryAtMost, startBoundless } from "../native/testing/boundless.ts";
import { createOrphans } from "./orphans.ts";

vi.mock("node:fs/promises", async (importOriginal) => {
  const real = await importOriginal<typeof import("node:fs/promises")>();
  return { ...real, readdir: vi.fn(real.readdir) };
});

test("for a hundred sandboxes without processes, the host's processes are scanned only twice in total", async () => {
  const sandboxIds = Array.from({ length: 100 }, (_, index) => `${index}`.padStart(64, "f"));
  const orphans = createOrphans(new Set(sandboxIds), () => undefined);
  for (const sandboxId of sandboxIds) await orphans.end(sandboxId);
  expect(readdir).toHaveBeenCalledTimes(2);
});

test("a process with an environment of 100 MiB does not use the daemon's memory", async () => {
  const boundless = await startBoundless();
  try {
    const look = `
      import { createOrphans } from ${JSON.stringify(join(import.meta.dirname, "orphans.ts"))};
      await createOrphans(new Set(["f"]), () => undefined).end("f");`;
    expect(memoryAtMost(look)).toBeLessThan(250);
  } finally {
    boundless.kill("SIGKILL");
  }
});
