// The image in a container's status, for every form of image name in a pod's spec.

import { expect, test } from "vitest";
import { shownImage } from "./shown-image.ts";
import { imageId } from "./testing/scripted-images.ts";

const id = imageId(`sha256:${"a".repeat(64)}`);
const digest = `sha256:${"b".repeat(64)}`;
const image = {
  id,
  tags: ["docker.io/library/app:latest", "registry.example/app:2"],
  repoDigests: [`docker.io/library/app@${digest}`, `registry.example/app@${digest}`],
};

test("the image id from the kubelet is shown as the name from the pod's spec", () => {
  expect(shownImage({ image: id, userSpecifiedImage: "registry.example/app:2" }, image)).toEqual({
    name: "registry.example/app:2",
    reference: `registry.example/app@${digest}`,
  });
});

test("a short name is shown in full", () => {
  const { name, reference } = shownImage({ image: id, userSpecifiedImage: "app" }, image);
  expect([name, reference]).toEqual(["docker.io/library/app:latest", `docker.io/library/app@${digest}`]);
});

test("a name with a digest is shown with the digest", () => {
  const userSpecifiedImage = `registry.example/app:2@${digest}`;
  expect(shownImage({ image: id, userSpecifiedImage }, image)).toEqual({
    name: `registry.example/app@${digest}`,
    reference: `registry.example/app@${digest}`,
  });
});

test("clients that set no userSpecifiedImage see the name that they used", () => {
  expect(shownImage({ image: "app:1", userSpecifiedImage: "" }, image).name).toBe("app:1");
});

test.each([id, "a".repeat(64), "a".repeat(13)])(
  "the id %s is shown as one of the image's names, and never used as a name itself",
  (given) => {
    for (const userSpecifiedImage of [given, ""]) {
      const asked = { image: given, userSpecifiedImage };
      expect(shownImage(asked, image).name).toBe("docker.io/library/app:latest");
      expect(shownImage(asked, { ...image, tags: [] }).name).toBe(`docker.io/library/app@${digest}`);
      expect(shownImage(asked, { id, tags: [], repoDigests: [] }).name).toBe(id);
    }
  },
);

test("a name that looks like an id prefix is a name if the image has it as a tag", () => {
  const named = { ...image, tags: ["docker.io/library/other:1", "docker.io/library/aaaa:latest"] };
  expect(shownImage({ image: id, userSpecifiedImage: "aaaa" }, named).name).toBe("docker.io/library/aaaa:latest");
});

test("an image that is not from a registry has its id as reference", () => {
  const loaded = { id, tags: [], repoDigests: [] };
  expect(shownImage({ image: id, userSpecifiedImage: "localhost/app:1" }, loaded).reference).toBe(id);
});
