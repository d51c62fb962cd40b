import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { indexTar, MalformedTar, type TarMember } from "./tar-index.ts";
import { makeTar } from "./testing/build-image.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "keelson-tar-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function index(bytes: Buffer): Promise<ReadonlyMap<string, TarMember>> {
  const file = path.join(directory, "x.tar");
  await writeFile(file, bytes);
  const handle = await open(file);
  try {
    return await indexTar(handle, new AbortController().signal);
  } finally {
    await handle.close();
  }
}

test("finds the members' offsets", async () => {
  const members = await index(
    makeTar([{ name: "./a", content: "aaa" }, { name: "d/" }, { name: "d/b", link: "../a" }]),
  );
  expect([...members]).toEqual([
    ["a", { kind: "file", offset: 512, size: 3 }],
    ["d", { kind: "other" }],
    ["d/b", { kind: "link", target: "a" }],
  ]);
});

test("a link has no content, whatever its size", async () => {
  const tar = makeTar([
    { name: "a", content: "abc" },
    { name: "b", link: "a" },
    { name: "c", content: "later" },
  ]);
  tar.write("00000000003\0", 1024 + 124);
  tar.write("        ", 1024 + 148);
  const sum = tar.subarray(1024, 1536).reduce((total, byte) => total + byte, 0);
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 1024 + 148);
  const members = await index(tar);
  expect(members.get("b")).toEqual({ kind: "link", target: "a" });
  expect(members.get("c")).toEqual({ kind: "file", offset: 2048, size: 5 });
});

test("the later of two equal names wins", async () => {
  const members = await index(
    makeTar([
      { name: "a", content: "1" },
      { name: "a", content: "22" },
    ]),
  );
  expect(members.get("a")).toMatchObject({ size: 2 });
});

test("reads sizes in base 256, and refuses impossible ones", async () => {
  const withSize = (field: number[]) => {
    const tar = makeTar([{ name: "a", content: "abc" }]);
    Buffer.from(field).copy(tar, 124);
    tar.write("        ", 148);
    const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return tar;
  };
  const members = await index(withSize([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]));
  expect(members.get("a")).toMatchObject({ size: 3 });
  await expect(index(withSize([0xff, ...Array(11).fill(0xff)]))).rejects.toThrow(MalformedTar);
  await expect(index(withSize([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]))).rejects.toThrow(/ends inside/);
});

test("does not accept a block with a wrong checksum as a header", async () => {
  const tar = makeTar([{ name: "a", content: "abc" }]);
  tar.write("b", 0);
  await expect(index(tar)).rejects.toThrow(/no tar header at byte 0/);
});

test("any damage results in an answer or MalformedTar, nothing else", async () => {
  const good = makeTar([
    { name: "a", content: "x".repeat(600) },
    { name: "b", link: "a" },
    { name: "c", content: "y" },
  ]);
  let seed = 1;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  let refused = 0;
  for (let round = 0; round < 1000; round++) {
    const bad = Buffer.from(good.subarray(0, round % 4 === 0 ? random(good.length) : good.length));
    for (let flips = random(4); flips >= 0 && bad.length > 0; flips--) bad[random(bad.length)] = random(256);
    // Half of them with a correct checksum, so that the fields themselves are parsed.
    if (round % 2 === 0 && bad.length >= 512) {
      bad.write("        ", 148);
      const sum = bad.subarray(0, 512).reduce((total, byte) => total + byte, 0);
      bad.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    }
    await index(bad).catch((error: unknown) => {
      expect(error).toBeInstanceOf(MalformedTar);
      refused++;
    });
  }
  expect(refused).toBeGreaterThan(100);
});
