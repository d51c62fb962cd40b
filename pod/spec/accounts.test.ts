import { expect, test } from "vitest";
import type { LayerFile } from "../../native/index.ts";
import { threadTime } from "../../native/testing/thread-time.ts";
import { plainSecurity } from "../testing/configs.ts";
import type { ContainerSecurity } from "../types.ts";
import { resolveAccount } from "./accounts.ts";

const passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:\n4294967296:x:0:0::/:\nweb:x:33:34::/var/www:/bin/false\n";
const group = "root:x:0:\nstaff:x:50:web,other\ndata:x:34:\nextra:x:77:web\n";

async function resolve(imageUser: string, change: Partial<ContainerSecurity> = {}, files = [passwd, group]) {
  return await resolveAccount({ ...plainSecurity, ...change }, imageUser, "test:1", async () =>
    files.map((text): LayerFile => ({ kind: "file", content: Buffer.from(text) })),
  );
}

test.each([
  ["", { uid: 0n, gid: 0n, supplementalGroups: [0n], home: Buffer.from("/root") }],
  ["web", { uid: 33n, gid: 34n, supplementalGroups: [34n, 50n, 77n], home: Buffer.from("/var/www") }],
  ["33", { uid: 33n, gid: 34n, supplementalGroups: [34n, 50n, 77n], home: Buffer.from("/var/www") }],
  ["web:staff", { uid: 33n, gid: 50n, supplementalGroups: [50n, 77n], home: Buffer.from("/var/www") }],
  ["1003:1004", { uid: 1003n, gid: 1004n, supplementalGroups: [1004n], home: Buffer.from("/") }],
])("the image's USER %j", async (user, account) => {
  expect(await resolve(user)).toEqual(account);
});

test("names and home directories are compared and returned byte by byte, in any encoding", async () => {
  const files = ["zoë:x:41:42::/home/zoë:/bin/sh\n", "gruppe-ß:x:45:zoë\n"];
  const named = { uid: 41n, gid: 45n, supplementalGroups: [45n], home: Buffer.from("/home/zoë") };
  expect(await resolve("zoë:gruppe-ß", {}, files)).toEqual(named);
  expect(await resolve("zoë", {}, files)).toMatchObject({ gid: 42n, supplementalGroups: [42n, 45n] });
});

test("a home directory with a NUL is ignored", async () => {
  const files = ["web:x:33:34::/var\0www:/bin/false\n", group];
  expect(await resolve("33", {}, files)).toMatchObject({ gid: 34n, home: Buffer.from("/") });
});

test("a number is an id and never a name (CVE-2016-3697)", async () => {
  expect(await resolve("1000")).toMatchObject({ uid: 1000n, gid: 0n });
});

test.each(["2147483648", "4294967296", "99999999999999999999"])(
  "the id %s is refused, not wrapped (CVE-2024-40635)",
  async (user) => {
    await expect(resolve(user)).rejects.toMatchObject({ code: "InvalidArgument" });
  },
);

test("a USER of 4,000,000 digits is refused without parsing it, with a short message", async () => {
  for (const user of ["9".repeat(4_000_000), `0:${"1".repeat(4_000_000)}`]) {
    const time = threadTime();
    await expect(resolve(user)).rejects.toMatchObject({
      name: "idOutOfRange",
      message: expect.stringMatching(/^.{1,300}$/),
    });
    expect(time()).toBeLessThan(200);
  }
});

test.each([
  ["line ends", "\n", "\n"],
  ["users", "a::0:0\n", ""],
  ["colons", ":", ":"],
  ["groups of the user", "", "g::1:web,web\n"],
  ["members", "", "web,"],
])("a megabyte of %s in passwd and group is parsed without a stall", async (_, user, group) => {
  const fill = (part: string) => part.repeat(part === "" ? 0 : Math.floor(1_000_000 / part.length));
  const time = threadTime();
  await resolve("web", {}, [`${passwd.replace(/^web.*/m, "")}${fill(user)}\n${passwd}`, `g::9:${fill(group)}`]);
  expect(time()).toBeLessThan(300);
});

test("the request overrides the image, and the image's group is not combined with a request's user", async () => {
  expect(await resolve("web:staff", { runAsUser: 5n })).toMatchObject({ uid: 5n, gid: 0n });
  expect(await resolve("", { runAsUsername: "web" })).toMatchObject({ uid: 33n, gid: 34n });
  expect(await resolve("", { runAsUser: 33n, runAsGroup: 9n })).toMatchObject({ uid: 33n, gid: 9n });
});

test("merge adds the image's groups to the request's, strict does not", async () => {
  const supplementalGroups = [1234n];
  expect((await resolve("web", { supplementalGroups })).supplementalGroups).toEqual([34n, 50n, 77n, 1234n]);
  const strict = await resolve("web", { supplementalGroups, supplementalGroupsPolicy: "strict" });
  expect(strict.supplementalGroups).toEqual([34n, 1234n]);
});

test("unknown user and group names are errors", async () => {
  await expect(resolve("nobody-here")).rejects.toThrow("no user nobody-here");
  await expect(resolve("web:nogroup-here")).rejects.toThrow("no group nogroup-here");
});

test("a passwd that is not a regular file fails only requests that need a name (CVE-2024-9676)", async () => {
  const odd = async (): Promise<LayerFile[]> => [{ kind: "not-regular" }, { kind: "missing" }];
  await expect(resolveAccount(plainSecurity, "web", "test:1", odd)).rejects.toThrow("not a regular file");
  expect(await resolveAccount(plainSecurity, "12", "test:1", odd)).toMatchObject({ uid: 12n });
});
