// Runs the C++ unit tests, built with sanitizers (`make -C native sanitize`) where that has been done.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const build = join(import.meta.dirname, "../../build");
const sanitized = join(build, "sanitize/monitor-unit-test");
const binary = existsSync(sanitized) ? sanitized : join(build, "monitor-unit-test");

test("the monitor's unit tests pass", () => {
  const output = execFileSync(binary, { encoding: "utf8" });
  expect(output.split("\n").length).toBeGreaterThan(20);
});
