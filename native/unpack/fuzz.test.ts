// A few seconds of mutation fuzzing of everything behind the codecs, under the sanitizers. For longer runs:
//   make -C native sanitize && native/build/sanitize/tar-fuzz 3600 "$RANDOM" DIR ARCHIVE…

import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { paxRecords, tar } from "./testing/tar.ts";
import { builds, makeSourceTree, makeWorkbench, type Workbench } from "./testing/workbench.ts";

const seconds = 5;

let bench: Workbench;
beforeEach(() => {
  bench = makeWorkbench(builds[1].binary);
});
afterEach(() => bench.remove());

/** Small archives that together contain everything a layer may contain, and some things it may not. */
function archives(): string[] {
  makeSourceTree(bench.path("source"));
  const packed = ["posix", "gnu"].map((format) => {
    const file = bench.path(`${format}.tar`);
    const attributes = format === "posix" ? ["--xattrs", "--xattrs-include=*"] : [];
    const words = [
      `--format=${format}`,
      ...attributes,
      "--exclude=size-*",
      "--exclude=busybox",
      "-C",
      bench.path("source"),
    ];
    execFileSync("tar", [...words, "-cf", file, "."]);
    return file;
  });
  const handMade = tar(
    { name: "g", type: "g", content: paxRecords({ uid: "5", "SCHILY.xattr.user.a": "b" }) },
    { name: "dir/", type: "5", mode: 0o755 },
    { name: "dir/dir/x", content: "x" },
    { name: "link", type: "2", link: "dir" },
    { name: "link/x", content: "through" },
    { name: "file", content: Buffer.alloc(1500, "f"), pax: { mtime: "1.5", size: "1500" } },
    { name: "hard", type: "1", link: "file" },
    { name: ".wh.a" },
    { name: "a/", type: "5", mode: 0o700 },
    { name: "dir/.wh..wh..opq" },
    { name: "up", type: "2", link: "../host" },
    { name: "up/victim", content: "evil" },
    { name: "link", content: "a file now" },
    { name: "fifo", type: "6" },
    { name: "null", type: "3", device: [1, 3] },
    {
      name: "h0",
      content: "ab",
      pax: { "GNU.sparse.size": "9", "GNU.sparse.offset": "3", "GNU.sparse.numbytes": "2" },
    },
    {
      name: "h1",
      content: "ab",
      pax: { "GNU.sparse.name": "holes", "GNU.sparse.size": "9", "GNU.sparse.map": "1,1,5,1" },
    },
    {
      name: "h2",
      content: `${"1\n4\n2\n".padEnd(512, "\0")}ab`,
      pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" },
    },
    {
      name: "h3",
      type: "S",
      magic: "gnu",
      content: "ab",
      patches: [
        [386, "00000000004\0"],
        [398, "00000000002\0"],
        [483, "00000000011\0"],
      ],
    },
  );
  writeFileSync(bench.path("hand-made.tar"), handMade);
  return [...packed, bench.path("hand-made.tar")];
}

test("damaged and spliced archives: no sanitizer report, host untouched, result independent of chunks", () => {
  const fuzzer = path.join(path.dirname(builds[1].binary), "tar-fuzz");
  const corpus = archives();
  mkdirSync(bench.path("work/host"), { recursive: true });
  writeFileSync(bench.path("work/host/victim"), "untouched");
  const ran = spawnSync(fuzzer, [String(seconds), "1", bench.path("work"), ...corpus], { timeout: 60_000 });
  expect({ status: ran.status, signal: ran.signal, stderr: ran.stderr.toString() }).toEqual({
    status: 0,
    signal: null,
    stderr: "",
  });
  const [, runs, kinds, unpacked] =
    /^(\d+) archives, (\d+) kinds of outcome, (\d+) unpacked/.exec(ran.stdout.toString()) ?? [];
  expect(Number(runs)).toBeGreaterThan(20);
  expect(Number(kinds)).toBeGreaterThan(5);
  expect(Number(unpacked)).toBeGreaterThan(0);
}, 90_000);
