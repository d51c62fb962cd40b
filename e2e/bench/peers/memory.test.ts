// The memory of a process without sharing of its program, computed from a listing of mappings.

import { expect, test } from "vitest";
import { kilobytesAlone } from "./memory.ts";

const smaps = `00400000-00452000 r-xp 00000000 08:02 173521                             /usr/bin/node
Rss:                 400 kB
Pss:                 100 kB
SwapPss:               7 kB
7f2c41000000-7f2c41021000 rw-p 00000000 00:00 0
Rss:                  60 kB
Pss:                  60 kB
7f2c42000000-7f2c42021000 r--p 00000000 08:02 99                                 /usr/lib/another/usr/bin/node
Rss:                  40 kB
Pss:                   3 kB
`;

test("the program's own pages count in full, shared pages in proportion", () => {
  expect(kilobytesAlone(smaps, "/usr/bin/node")).toBe(400 + 60 + 3);
  expect(kilobytesAlone(smaps, "/usr/bin/other")).toBe(100 + 60 + 3);
});
