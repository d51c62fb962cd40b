// Host path lookups: many at once do not fail; hanging ones make others wait, but never longer than
// the time limit of one lookup.

import { expect, test } from "vitest";
import { holdTime, pass, quiet } from "../testing/clock.ts";
import { mountOf } from "../testing/configs.ts";
import { HostPaths } from "./host-paths.ts";

holdTime();
const resolvePath = async (path: string) => path;

test("a thousand volumes at once are all looked up, a limited number at a time", async () => {
  let [underWay, most] = [0, 0];
  const paths = new HostPaths({
    resolvePath,
    presentPath: async (path) => {
      underWay += 1;
      most = Math.max(most, underWay);
      await quiet();
      underWay -= 1;
      return path;
    },
  });
  const sources = Array.from({ length: 1000 }, (_, index) => `/volume/${index}`);
  expect(await Promise.all(sources.map((source) => paths.present(mountOf(source))))).toEqual(sources);
  expect(most).toBe(256);
});

test("if too many lookups hang, another one times out, and a retry succeeds once there is room", async () => {
  const [hanging, asked] = [Promise.withResolvers<string>(), new Set<string>()];
  const paths = new HostPaths({
    resolvePath,
    presentPath: async (path) => {
      asked.add(path);
      return path.startsWith("/dead") ? await hanging.promise : path;
    },
  });
  const look = (source: string) =>
    expect(paths.present(mountOf(source))).rejects.toMatchObject({ code: "Unavailable" });
  const dead = Array.from({ length: 256 }, (_, index) => look(`/dead/${index}`));
  const refused = look("/good");
  await pass(10_000);
  await Promise.all([...dead, refused]);
  expect(asked.has("/good")).toBe(false);
  hanging.resolve("/there-again");
  await quiet();
  expect(await paths.present(mountOf("/good"))).toBe("/good");
});

test("lookups that waited for a place and find theirs under way share it, and leave all places free", async () => {
  const [dead, same, late] = [0, 1, 2].map(() => Promise.withResolvers<string>());
  const asked: string[] = [];
  const paths = new HostPaths({
    resolvePath,
    presentPath: async (path) => {
      asked.push(path);
      return (await (path === "/same" ? same : path.startsWith("/dead") ? dead : late)?.promise) ?? "";
    },
  });
  const look = (name: (index: number) => string) =>
    Promise.all(Array.from({ length: 256 }, (_, index) => paths.present(mountOf(name(index)))));
  const first = look((index) => `/dead/${index}`);
  const second = look(() => "/same");
  dead?.resolve("/found");
  await first;
  await quiet();
  expect(asked.filter((path) => path === "/same")).toHaveLength(1);
  same?.resolve("/found");
  await second;
  const third = look((index) => `/late/${index}`);
  await quiet();
  expect(asked.filter((path) => path.startsWith("/late"))).toHaveLength(256);
  late?.resolve("/found");
  await third;
});
