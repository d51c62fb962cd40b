// Metrics of work that is already in progress when measuring begins.

import { expect, test } from "vitest";
import { beginWork, watchWork } from "../../native/index.ts";
import { MetricsRegistry } from "./metrics-registry.ts";

test("work that began before measuring is not subtracted from the work in progress when it ends", async () => {
  // Like the daemon's list of work in progress, which is registered first.
  const leave = watchWork(
    () => undefined,
    () => undefined,
  );
  const before = beginWork("tidying", () => "before");
  const registry = new MetricsRegistry({
    pods: { sandboxes: () => [], containers: () => [] },
    network: { leases: () => [] },
    images: {
      list: () => [],
      fileSystemUse: async () => {
        const none = { timestamp: 0n, mountpoint: "/", usedBytes: 0n, inodesUsed: 0n };
        return { images: none, containers: none };
      },
    },
    version: "1.2.3",
  });
  const inProgress = async () => /^keelson_work_in_progress\{kind="tidying"\} (.*)$/m.exec(await registry.text())?.[1];
  try {
    const after = beginWork("tidying", () => "after");
    expect(await inProgress()).toBe("1");
    before();
    expect(await inProgress()).toBe("1");
    after();
    expect(await inProgress()).toBe("0");
  } finally {
    registry.close();
    leave();
  }
});
