// Signal names in the forms that CRI and images use.

import { expect, test } from "vitest";
import { signalNumber } from "./signals.ts";

test.each([
  ["SIGTERM", 15],
  ["term", 15],
  ["9", 9],
  ["SIGRTMIN+3", 37],
  ["SIGRTMINPLUS3", 37],
  ["SIGRTMAXMINUS1", 63],
  ["SIGRTMAX", 64],
  ["SIGCLD", 17],
  ["SIGPOLL", 29],
  ["SIGNONE", undefined],
  ["SIGRTMIN+40", undefined],
  ["0", undefined],
  ["RUNTIME_DEFAULT", undefined],
])("the signal %s is number %s", (name, number) => {
  expect(signalNumber(name)).toBe(number);
});
