// When an image is pulled, by its policy and name, and which user it has.

import Long from "long";
import { expect, test } from "vitest";
import { runtime } from "../api/generated/messages.js";
import { Images } from "./images.ts";
import { Report } from "./report.ts";

const { signal } = new AbortController();

/** A server that has this image under every name, or none until one is pulled. */
function serverWith(image: runtime.v1.Image.$Properties | undefined) {
  const pulled: string[] = [];
  const images = new Images(
    {
      imageStatus: async () =>
        new runtime.v1.ImageStatusResponse({ image: pulled.length > 0 ? { id: "new", ...image } : (image ?? null) }),
      pullImage: async (request) => {
        pulled.push(request.image?.image ?? "");
        return new runtime.v1.PullImageResponse({ imageRef: "new" });
      },
    },
    Report.plain({ write: () => true }),
  );
  return { pulled, ensure: (name: string, policy?: string) => images.ensure(name, policy, {}, signal) };
}

test.each([
  ["app", true],
  ["app:latest", true],
  ["localhost:5000/app", true],
  ["app:1", false],
  ["localhost:5000/app:1", false],
  [`app@sha256:${"a".repeat(64)}`, false],
  [`app:latest@sha256:${"a".repeat(64)}`, false],
])("without a policy, the present image %s is pulled again: %s", async (name, again) => {
  const { pulled, ensure } = serverWith({ id: "old" });
  expect((await ensure(name)).id).toBe("old");
  expect(pulled).toEqual(again ? [name] : []);
});

test("Always pulls a present image, IfNotPresent a missing one, Never none", async () => {
  const [present, missing] = [serverWith({ id: "old" }), serverWith(undefined)];
  await present.ensure("app:1", "Always");
  await present.ensure("app:latest", "IfNotPresent");
  await present.ensure("app:latest", "Never");
  expect(present.pulled).toEqual(["app:1"]);
  await expect(missing.ensure("app:1", "Never")).rejects.toThrow("imagePullPolicy is Never");
  expect((await missing.ensure("app:1", "IfNotPresent")).id).toBe("new");
  expect(missing.pulled).toEqual(["app:1"]);
});

test.each([
  [{}, { uid: 0, username: "" }],
  [{ uid: { value: Long.fromNumber(33) } }, { uid: 33, username: "" }],
  [{ uid: { value: Long.ZERO } }, { uid: 0, username: "" }],
  [{ username: "www" }, { uid: undefined, username: "www" }],
])("the user of an image with %j is %j", async (user, found) => {
  expect(await serverWith({ id: "old", ...user }).ensure("app:1")).toEqual({ id: "old", ...found });
});
