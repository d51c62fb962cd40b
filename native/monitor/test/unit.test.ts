// Runs the C++ unit tests, which are only built with sanitizers: `make -C native sanitize`.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const binary = join(import.meta.dirname, "../../build/sanitize/monitor-unit-test");

test("the monitor's unit tests pass", () => {
  const output = execFileSync(binary, { encoding: "utf8" });
  expect(output.split("\n").length).toBeGreaterThan(20);
});
