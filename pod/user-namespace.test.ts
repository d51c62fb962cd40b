// Id mappings: who the container's root is on the host, and which ids a process can have.

import { expect, test } from "vitest";
import { hostRoot, refuseUnmapped } from "./user-namespace.ts";

const mapping = (containerId: number, hostId: number, length: number) => ({ containerId, hostId, length });
const ids = [mapping(1, 200_000, 10), mapping(0, 100_000, 1)];
const mappings = { uids: ids, gids: ids };

test("the container's root is the host's id of its mapping, and the host's root without mappings", () => {
  expect(hostRoot(mappings)).toEqual({ uid: 100_000, gid: 100_000 });
  expect(hostRoot(undefined)).toEqual({ uid: 0, gid: 0 });
});

test.each([
  ["user", { uid: 11n }],
  ["group", { gid: 11n }],
  ["group", { supplementalGroups: [10n, 11n] }],
] as const)("a %s beyond the mappings is refused: %o", (kind, change) => {
  const user = { uid: 10n, gid: 10n, supplementalGroups: [0n, 10n] };
  refuseUnmapped(mappings, user);
  expect(() => refuseUnmapped(mappings, { ...user, ...change })).toThrow(
    expect.objectContaining({ name: "idUnmapped", message: expect.stringContaining(kind) }),
  );
});
