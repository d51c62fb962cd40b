import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { capabilityNames } from "./capabilities.ts";
import { lowestOomScore } from "./oom-score.ts";

test("without CAP_SYS_RESOURCE no container gets a lower score than this process", async () => {
  const sysResource = 1n << BigInt(capabilityNames.indexOf("CAP_SYS_RESOURCE"));
  expect(await lowestOomScore(sysResource)).toBe(-1000);
  expect(await lowestOomScore(~sysResource)).toBe(Number(readFileSync("/proc/self/oom_score_adj", "utf8")));
});
