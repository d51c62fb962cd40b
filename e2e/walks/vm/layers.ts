// An image with as many layers as Docker allows, on kernels that take the layers one by one (Linux 6.7) or in one page
// of mount options.

import assert from "node:assert/strict";
import { join } from "node:path";
import { busyboxLayer, makeImage, makeLayer, makeTar } from "../../../image/testing/build-image.ts";
import { writeImageLayout } from "../../fixtures/image-layout.ts";
import { runContainer, runPod } from "./pods.ts";
import type { Scene } from "./scene.ts";

const layered = "vm.test/layered:1";
const count = 127;

/** For `keelson image load`: each layer has its own file, and one that all layers have. */
export async function buildLayeredImage(cargo: string): Promise<void> {
  const layers = Array.from({ length: count - 1 }, (_, at) =>
    makeLayer(makeTar([{ name: `own-${at}` }, { name: "top", content: `${at}` }])),
  );
  const image = makeImage({ layers: [await busyboxLayer(), ...layers], defaults: { Env: ["PATH=/bin"] } });
  await writeImageLayout(join(cargo, "layered"), layered, image);
}

export async function layers({ machine, crictl, step }: Scene): Promise<void> {
  await step(`an image of ${count} layers is loaded`, () => machine.run("keelson image load /cargo/layered"));
  await step("its container sees all layers, and can write", async () => {
    const pod = await runPod(machine, crictl, "layered");
    const script = "sleep 600";
    const id = await runContainer(machine, crictl, pod, { name: "main", script, image: layered });
    const seen = await crictl.run(
      "exec",
      "-s",
      id,
      "sh",
      "-c",
      "echo new >/own-0; ls -d /own-* | wc -l; cat /top /own-0",
    );
    assert.equal(seen, `${count - 1}\n${count - 2}new`);
    await crictl.run("rmp", "--force", pod.id);
  });
}
