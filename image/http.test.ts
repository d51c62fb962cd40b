// What a pull's HTTP client brings into the daemon's memory.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test("of undici it loads the agent, its requests and errors, not the whole package", () => {
  const script = `
    const { createRequire } = await import("node:module");
    await import(${JSON.stringify(join(import.meta.dirname, "http.ts"))});
    console.log(JSON.stringify(Object.keys(createRequire("/").cache)));
  `;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" });
  const loaded = printed.match(/(?<=\/undici\/)[^"]+/g);
  expect(loaded).toContain("lib/dispatcher/agent.js");
  expect(loaded).not.toContain("index.js");
  expect(loaded?.filter((path) => /fetch|websocket|mock|cache/i.test(path))).toEqual([]);
});
