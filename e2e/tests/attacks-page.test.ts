// Checks ATTACKS.md against the tree: each attack has its row, and the tests that a row names exist.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

const top = join(import.meta.dirname, "../..");
const page = await readFile(join(import.meta.dirname, "../ATTACKS.md"), "utf8");
const rows = page
  .split("\n")
  .map((line) => /^\| (\d+) \| (.+) \| (.+) \| (.+) \|$/.exec(line))
  .filter((row) => row !== null)
  .map(([, number, , , shows = ""]) => ({ number: Number(number), shows }));

function citations(shows: string): { readonly file: string; readonly title: string }[] {
  return [...shows.matchAll(/`([^`]+\.test\.ts)` "([^"]+)"/g)].map(([, file = "", title = ""]) => ({ file, title }));
}

test("each of the 87 attacks has one row, in order", () => {
  expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 87 }, (_, at) => at + 1));
});

test("each row names a test, or explains why there is none", () => {
  for (const { number, shows } of rows) {
    const why = /^\*\*(Cannot apply|No test yet)\b/.test(shows);
    expect(why || citations(shows).length > 0, `row ${number}: ${shows}`).toBe(true);
  }
});

test("each test that a row names exists in its file under that title", async () => {
  const all = rows.flatMap(({ number, shows }) => citations(shows).map((citation) => ({ number, ...citation })));
  expect(all.length).toBeGreaterThan(87);
  for (const { number, file, title } of all) {
    const source = await readFile(join(top, file), "utf8");
    const written = ['"', "`", "'"].some((quote) => source.includes(`${quote}${title}${quote}`));
    expect(written, `row ${number}: ${file} has no test "${title}"`).toBe(true);
  }
});

test("the page names every advisory for which OCI runtimes are refused", async () => {
  const source = await readFile(join(top, "pod/runtime-floor.ts"), "utf8");
  const ids = new Set(source.match(/CVE-\d{4}-\d+|GHSA(-[a-z0-9]{4}){3}/g));
  expect(ids.size).toBeGreaterThan(8);
  for (const id of ids) expect(page).toContain(id);
  const fixed = [...source.matchAll(/fixed: \[([^\]]+)\]/g)].flatMap(
    ([, list = ""]) => list.match(/[\d][\w.-]+/g) ?? [],
  );
  expect(fixed).toContain("1.4.0-rc.3");
  for (const release of fixed) expect(page).toContain(release);
});

test("78: every shipped package is pinned by its hash, and only one known package has an install script", async () => {
  type Package = { readonly hasInstallScript?: boolean; readonly dev?: boolean; readonly integrity?: string };
  const lock: { readonly packages: Readonly<Record<string, Package>> } = JSON.parse(
    await readFile(join(top, "package-lock.json"), "utf8"),
  );
  const shipped = Object.entries(lock.packages).filter(([name, { dev }]) => name !== "" && dev !== true);
  expect(shipped.length).toBeGreaterThan(5);
  expect(shipped.filter(([, { integrity = "" }]) => !integrity.startsWith("sha512-"))).toEqual([]);
  const scripted = shipped.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([name]) => name);
  // Its script only warns about version ranges in the installing package.json, and writes nothing.
  expect(scripted).toEqual(["node_modules/@grpc/proto-loader/node_modules/protobufjs"]);
});
