// The images of the pods, loaded into each node without a registry.

import { chmod, copyFile, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BuiltLayer, busyboxLayer, layerOf, makeImage } from "../../../image/testing/build-image.ts";
import { writeImageLayout } from "../../fixtures/image-layout.ts";
import type { Node } from "../../fixtures/kubernetes/node.ts";

/** Busybox and Kubernetes' agnhost, the server and client of its own tests. */
export const toolsImage = "walk.test/tools:1";
export const corednsImage = "walk.test/coredns:1";
/** For the test that removes unused images. */
export const spareImage = "walk.test/spare:1";
/** The image in fixtures/manifests. */
const manifestsImage = "localhost/test/busybox:1";

export type Archives = readonly string[];

/** Writes them below `directory`, for `loadImages`. */
export async function buildImages(directory: string, programs: string): Promise<Archives> {
  const [busybox, agnhost, coredns] = await Promise.all([
    busyboxLayer(),
    programLayer(join(programs, "agnhost"), ["tar"]),
    programLayer(join(programs, "coredns")),
  ]);
  const defaults = { Env: ["PATH=/bin"], Cmd: ["sh"] };
  const images = [
    { reference: toolsImage, image: makeImage({ layers: [busybox, agnhost], defaults }) },
    { reference: corednsImage, image: makeImage({ layers: [coredns], defaults: { Entrypoint: ["/bin/coredns"] } }) },
    { reference: spareImage, image: makeImage({ layers: [busybox], defaults, comment: "spare" }) },
    { reference: manifestsImage, image: makeImage({ layers: [busybox], defaults }) },
  ];
  const written = images.map(({ reference, image }, index) =>
    writeImageLayout(join(directory, `image-${index}`), reference, image),
  );
  return await Promise.all(written);
}

export function loadImages(node: Node, archives: Archives): void {
  for (const archive of archives) node.daemon.keelson("image", "load", archive);
}

/** The program in /bin, together with further busybox applets. */
async function programLayer(program: string, applets: readonly string[] = []): Promise<BuiltLayer> {
  const root = await mkdtemp(join(tmpdir(), "keelson-program-"));
  try {
    await chmod(root, 0o755);
    await mkdir(join(root, "bin"));
    await copyFile(program, join(root, "bin", program.split("/").at(-1) ?? ""));
    for (const applet of applets) await symlink("busybox", join(root, "bin", applet));
    // Loaded from the local disk: compression would only cost time.
    return await layerOf(root, "none");
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
