// Every error of every package: a code, a sentence, a remedy, and a line in ERRORS.md.

import { expect, test } from "vitest";
import { KeelsonError } from "../native/index.ts";
import { catalogues, errorReference } from "./error-reference.ts";
import { wireStatus } from "./status.ts";

const entries = [...catalogues].flatMap(([part, catalogue]) =>
  Object.entries(catalogue).map(([name, entry]) => ({ part, name, entry })),
);

test.each(entries)("$name of $part says what happened and what to do", ({ name, entry }) => {
  expect(entry.sentence).toMatch(/^[A-Z{"'/`].*[.}:]$/s);
  expect(entry.remedy).toMatch(/^[A-Z{`].*[.?}]$/s);
  const error = new KeelsonError(name, entry.code, `${entry.sentence} ${entry.remedy}`);
  expect(wireStatus(error).code).toBeGreaterThan(0);
});

test("ERRORS.md is what the catalogues say", async () => {
  await expect(errorReference()).toMatchFileSnapshot("ERRORS.md");
});
