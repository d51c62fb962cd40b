// The images of the benchmark, and the registry on loopback that all servers pull them from.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { busyboxLayer, makeImage, pushImage } from "../../../image/testing/build-image.ts";
import { startRegistry, type TestRegistry } from "../../../image/testing/registry.ts";
import { largeImage, makeLargeImage } from "./large-image.ts";

/** The benchmark has its own network namespace, so any port is free. */
const port = 5000;
const host = "bench.test";
const address = `127.0.0.1:${port}`;

export const images = {
  /** The registry in the images' names, and its address. */
  host,
  address,
  busybox: `${host}/busybox:1`,
  /** For the sandboxes of containerd and CRI-O. */
  pause: `${host}/pause:1`,
  large: (number: number) => `${host}/large:${number}`,
} as const;

/** Configures the registry's address for containerd and Keelson, in the directory of their hosts.toml files. */
export async function writeHosts(registries: string): Promise<void> {
  await mkdir(join(registries, host), { recursive: true });
  const text = `[host."http://${address}"]\ncapabilities = ["pull", "resolve"]\n`;
  await writeFile(join(registries, host, "hosts.toml"), text);
}

/** A registry with the small images. */
export async function serveImages(): Promise<TestRegistry> {
  const registry = await startRegistry({ port });
  const layers = [await busyboxLayer()];
  await pushImage(registry, "busybox", makeImage({ layers, defaults: { Env: ["PATH=/bin"], Cmd: ["sh"] } }), "1");
  const defaults = { Env: ["PATH=/bin"], Cmd: ["sleep", "infinity"] };
  await pushImage(registry, "pause", makeImage({ layers, defaults }), "1");
  return registry;
}

/** A registry with `count` large images, which are created in the first run and kept in `cache`. */
export async function serveLargeImages(cache: string, count: number): Promise<TestRegistry> {
  const registry = await startRegistry({ storage: join(cache, "bench-large-images-2"), port });
  try {
    for (let number = 1; number <= count; number += 1) {
      if (!(await hasLargeImage(number))) await pushImage(registry, "large", makeLargeImage(number), String(number));
    }
    return registry;
  } catch (error) {
    await registry.stop();
    throw error;
  }
}

async function hasLargeImage(number: number): Promise<boolean> {
  return (await fetch(`http://${address}/v2/large/manifests/${number}`, { method: "HEAD", headers: { accept } })).ok;
}

const accept = "application/vnd.oci.image.manifest.v1+json";

/** Describes the large image; only while its registry is running. */
export async function describeLargeImage(): Promise<string> {
  const response = await fetch(`http://${address}/v2/large/manifests/1`, { headers: { accept } });
  const { layers }: Manifest = JSON.parse(await response.text());
  const megabytes = Math.round(layers.reduce((sum, { size }) => sum + size, 0) / 1e6);
  return `${megabytes} MB of gzip in ${layers.length} layers, ${largeImage.files} files`;
}

interface Manifest {
  readonly layers: readonly { readonly size: number }[];
}
