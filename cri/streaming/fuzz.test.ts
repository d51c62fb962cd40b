// Five seconds of the fuzzer (testing/fuzz.ts), with a seed of its own each day so that days differ and a day repeats.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("damaged sessions end; nothing is thrown, left or kept", async () => {
  const day = String(Math.floor(Date.now() / 86_400_000));
  const fuzz = join(import.meta.dirname, "testing/fuzz.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [fuzz, "5", day], { timeout: 60_000 });
  expect(stdout).toMatch(/^seed \d+: [1-9]\d\d+ sessions, /);
  process.stdout.write(stdout);
}, 60_000);
