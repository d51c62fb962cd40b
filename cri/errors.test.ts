// Every error of every package has a code, a sentence, a remedy, and a line in ERRORS.md.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KeelsonError } from "../native/index.ts";
import { wireStatus } from "./api/grpc-status.ts";
import { catalogues, errorReference } from "./error-reference.ts";
import { criErrors } from "./errors.ts";

const entries = [...catalogues].flatMap(([part, catalogue]) =>
  Object.entries(catalogue).map(([name, entry]) => ({ part, name, entry })),
);

test.each(entries)("$name of $part says what happened and what to do", ({ name, entry }) => {
  expect(entry.sentence).toMatch(/^[A-Z{"'/`].*[.}:]$/s);
  expect(entry.remedy).toMatch(/^[A-Z{`].*[.?}]$/s);
  const error = new KeelsonError(name, entry.code, `${entry.sentence} ${entry.remedy}`);
  expect(wireStatus(error).code).toBeGreaterThan(0);
});

/** Matches catalogue entries in source code: a name, and an object that begins with its code. */
const written = /^ {2}(\w+): \{\s*code: "/gm;

test("every error that any source declares is in the reference", () => {
  const sources = ["cri", "pod", "image", "cni", "native"].flatMap((folder) =>
    readdirSync(join(import.meta.dirname, "..", folder), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts") && !path.includes("build/"))
      .map((path) => readFileSync(join(import.meta.dirname, "..", folder, path), "utf8"))
      .filter((text) => text.includes("catalogue({")),
  );
  const declared = sources.flatMap((text) => [...text.matchAll(written)].map(([, name = ""]) => name));
  const listed = entries.map(({ name }) => name.replace(/^monitorRefused \((\w+)\)$/, "$1"));
  expect(declared.length).toBeGreaterThan(140);
  expect(declared.sort()).toEqual(listed.sort());
});

test("a placeholder value that already ends with a period gets no second one", () => {
  const [full, bare] = ["It broke.", "It broke"].map((problem) => criErrors.usage({ problem, help: "keelson --help" }));
  expect(full?.message).toBe("It broke. See keelson --help.");
  expect(bare?.message).toBe(full?.message);
});

test("ERRORS.md matches the catalogues; npm run build:errors regenerates it", () => {
  expect(readFileSync(join(import.meta.dirname, "ERRORS.md"), "utf8")).toBe(errorReference());
});
