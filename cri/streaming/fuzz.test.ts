// Five seconds of the fuzzer (testing/fuzz.ts), with a different seed each day, so that a day's run can be repeated.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("damaged sessions end without exceptions, leftovers or leaks", async () => {
  const day = String(Math.floor(Date.now() / 86_400_000));
  const fuzz = join(import.meta.dirname, "testing/fuzz.ts");
  const run = promisify(execFile)(process.execPath, [fuzz, "5", day], { timeout: 60_000 });
  // Its findings are in its output, even if it exits with an error.
  const { stdout, code } = await run.then(
    ({ stdout }) => ({ stdout, code: 0 }),
    (error: { stdout: string; code: unknown }) => error,
  );
  expect(code, stdout).toBe(0);
  expect(stdout).toMatch(/^seed \d+: [1-9]\d+ sessions, /);
  process.stdout.write(stdout);
}, 60_000);
