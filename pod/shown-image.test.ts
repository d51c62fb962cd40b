// What a container's status says of its image, for each way in which a pod's spec can name one.

import { expect, test } from "vitest";
import { shownImage } from "./shown-image.ts";
import { imageId } from "./testing/scripted-images.ts";

const id = imageId(`sha256:${"a".repeat(64)}`);
const digest = `sha256:${"b".repeat(64)}`;
const image = { id, repoDigests: [`docker.io/library/app@${digest}`, `registry.example/app@${digest}`] };

test("the kubelet's id is shown as the name that the pod's spec has", () => {
  expect(shownImage({ image: id, userSpecifiedImage: "registry.example/app:2" }, image)).toEqual({
    name: "registry.example/app:2",
    reference: `registry.example/app@${digest}`,
  });
});

test("a short name is shown whole", () => {
  const { name, reference } = shownImage({ image: id, userSpecifiedImage: "app" }, image);
  expect([name, reference]).toEqual(["docker.io/library/app:latest", `docker.io/library/app@${digest}`]);
});

test("a name with a digest is shown with it", () => {
  const userSpecifiedImage = `registry.example/app:2@${digest}`;
  expect(shownImage({ image: id, userSpecifiedImage }, image)).toEqual({
    name: `registry.example/app@${digest}`,
    reference: `registry.example/app@${digest}`,
  });
});

test("clients that say no other name see the one that they gave", () => {
  expect(shownImage({ image: "app:1", userSpecifiedImage: "" }, image).name).toBe("app:1");
  expect(shownImage({ image: id, userSpecifiedImage: id }, image).name).toBe(id);
});

test("an image that came from no registry has its id for a reference", () => {
  const loaded = { id, repoDigests: [] };
  expect(shownImage({ image: id, userSpecifiedImage: "localhost/app:1" }, loaded).reference).toBe(id);
});
