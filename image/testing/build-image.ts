// For tests: small images built on the spot, and pushed by the Distribution API.

import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { gzipSync, zstdCompressSync } from "node:zlib";

const run = promisify(execFile);

export type Compression = "none" | "gzip" | "zstd";

export interface BuiltLayer {
  readonly blob: Buffer;
  readonly digest: string;
  readonly diffId: string;
  readonly mediaType: string;
}

/** The `config` part of an image config, with the spec's field names. */
export interface ContainerDefaults {
  readonly User?: string;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly StopSignal?: string;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly Labels?: Readonly<Record<string, string>>;
}

export interface BuiltImage {
  readonly manifest: Buffer;
  readonly manifestType: string;
  /** Digest of the manifest. */
  readonly digest: string;
  readonly config: Buffer;
  /** Digest of the config: the image's id. */
  readonly id: string;
  readonly layers: readonly BuiltLayer[];
}

export interface TarEntry {
  readonly name: string;
  /** A regular file unless `link` is given or the name ends in a slash. */
  readonly content?: string | Buffer;
  readonly link?: string;
  readonly mode?: number;
}

export interface ImageParts {
  readonly layers: readonly BuiltLayer[];
  readonly defaults?: ContainerDefaults;
  readonly form?: "oci" | "docker";
  readonly architecture?: string;
  /** Distinguishes images that are otherwise equal. */
  readonly comment?: string;
}

/** Architecture of this machine by its OCI name. */
export const hostArchitecture = process.arch === "arm64" ? "arm64" : "amd64";

export function sha256(bytes: Buffer | string): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** A tar of exactly these entries (ustar), including hostile names. */
export function makeTar(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? "");
    const isDirectory = entry.name.endsWith("/");
    const header = Buffer.alloc(512);
    header.write(entry.name, 0, 100);
    header.write((entry.mode ?? (isDirectory ? 0o755 : 0o644)).toString(8).padStart(7, "0"), 100);
    header.write("0000000\0" + "0000000\0", 108);
    header.write(content.length.toString(8).padStart(11, "0"), 124);
    header.write("00000000000\0", 136);
    header.write("        ", 148);
    header.write(entry.link !== undefined ? "2" : isDirectory ? "5" : "0", 156);
    header.write(entry.link ?? "", 157, 100);
    header.write("ustar\0" + "00", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export function makeLayer(tar: Buffer, compression: Compression = "gzip", form: "oci" | "docker" = "oci"): BuiltLayer {
  const blob = compression === "gzip" ? gzipSync(tar) : compression === "zstd" ? zstdCompressSync(tar) : tar;
  const plain =
    form === "oci" ? "application/vnd.oci.image.layer.v1.tar" : "application/vnd.docker.image.rootfs.diff.tar";
  const separator = form === "oci" ? "+" : ".";
  const mediaType = compression === "none" ? plain : `${plain}${separator}${compression}`;
  return { blob, digest: sha256(blob), diffId: sha256(tar), mediaType };
}

export function makeImage(parts: ImageParts): BuiltImage {
  const isOci = parts.form !== "docker";
  const config = Buffer.from(
    JSON.stringify({
      architecture: parts.architecture ?? hostArchitecture,
      os: "linux",
      config: parts.defaults ?? {},
      rootfs: { type: "layers", diff_ids: parts.layers.map((layer) => layer.diffId) },
      history: [{ comment: parts.comment ?? "" }],
    }),
  );
  const manifestType = isOci
    ? "application/vnd.oci.image.manifest.v1+json"
    : "application/vnd.docker.distribution.manifest.v2+json";
  const configType = isOci
    ? "application/vnd.oci.image.config.v1+json"
    : "application/vnd.docker.container.image.v1+json";
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: configType, digest: sha256(config), size: config.length },
      layers: parts.layers.map(({ mediaType, digest, blob }) => ({ mediaType, digest, size: blob.length })),
    }),
  );
  return { manifest, manifestType, digest: sha256(manifest), config, id: sha256(config), layers: parts.layers };
}

/** An image of one small layer: `etc/<name>`, which contains its own name. */
export function tinyImage(name: string, compression: Compression = "gzip"): BuiltImage {
  const layer = makeLayer(makeTar([{ name: "etc/" }, { name: `etc/${name}`, content: name }]), compression);
  return makeImage({ layers: [layer], comment: name });
}

/** An OCI index over images, one for each architecture. */
export function makeIndex(images: readonly { readonly image: BuiltImage; readonly architecture: string }[]): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: images.map(({ image, architecture }) => ({
        mediaType: image.manifestType,
        digest: image.digest,
        size: image.manifest.length,
        platform: { os: "linux", architecture },
      })),
    }),
  );
}

const applets =
  "sh ls cat echo sleep true false env id ps mount umount touch mkdir rm ln cp mv head tail grep sed wc date hostname " +
  "kill stat df nc wget httpd ip ifconfig ping nslookup dd yes seq test chmod chown sync sha256sum readlink pwd tee top vi";

/** A root file system around Debian's busybox-static, as one layer. */
export async function busyboxLayer(compression: Compression = "gzip"): Promise<BuiltLayer> {
  const root = await mkdtemp(path.join(tmpdir(), "keelson-busybox-"));
  try {
    await chmod(root, 0o755);
    for (const name of ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "var", "run"]) {
      await mkdir(path.join(root, name));
    }
    await chmod(path.join(root, "tmp"), 0o1777);
    await copyFile("/usr/bin/busybox", path.join(root, "bin/busybox"));
    await chmod(path.join(root, "bin/busybox"), 0o755);
    for (const applet of applets.split(" ")) await symlink("busybox", path.join(root, "bin", applet));
    const passwd =
      "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n";
    await writeFile(path.join(root, "etc/passwd"), passwd);
    await writeFile(path.join(root, "etc/group"), "root:x:0:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n");
    return await layerOf(root, compression);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** A directory's files as a layer, all owned by root; always the same bytes for the same files. */
export async function layerOf(directory: string, compression: Compression = "gzip"): Promise<BuiltLayer> {
  const words = ["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  const { stdout } = await run("tar", [...words, "--directory", directory, "."], {
    encoding: "buffer",
    maxBuffer: 256 * 1024 * 1024,
  });
  return makeLayer(stdout, compression);
}

/** A layer of the files that `fill` creates in a directory, which is the layer's root. */
export async function layerFrom(fill: (root: string) => Promise<void>): Promise<BuiltLayer> {
  const root = await mkdtemp(path.join(tmpdir(), "keelson-layer-"));
  try {
    await chmod(root, 0o755);
    await fill(root);
    return await layerOf(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

export interface PushTarget {
  /** `127.0.0.1:5000` */
  readonly address: string;
  readonly authorization: string | undefined;
}

/** Pushes an image's blobs and its manifest, by tag, or by digest when `tag` is absent. */
export async function pushImage(
  target: PushTarget,
  repository: string,
  image: BuiltImage,
  tag: string = image.digest,
): Promise<void> {
  for (const blob of [image.config, ...image.layers.map((layer) => layer.blob)]) {
    await pushBlob(target, repository, blob);
  }
  await pushManifest(target, repository, tag, image.manifest, image.manifestType);
}

/** Pushes a manifest or an index as it is. */
export async function pushManifest(
  target: PushTarget,
  repository: string,
  tag: string,
  bytes: Buffer,
  mediaType: string,
): Promise<void> {
  await put(target, `http://${target.address}/v2/${repository}/manifests/${tag}`, bytes, mediaType);
}

async function pushBlob(target: PushTarget, repository: string, blob: Buffer): Promise<void> {
  const uploads = `http://${target.address}/v2/${repository}/blobs/uploads/`;
  const started = await fetch(uploads, { method: "POST", headers: headersOf(target) });
  const location = new URL(started.headers.get("location") ?? "", uploads);
  if (started.status !== 202) throw new Error(`upload to ${uploads}: status ${started.status}`);
  location.searchParams.set("digest", sha256(blob));
  await put(target, location.href, blob, "application/octet-stream");
}

async function put(target: PushTarget, url: string, bytes: Buffer, mediaType: string): Promise<void> {
  const headers = { ...headersOf(target), "content-type": mediaType };
  const response = await fetch(url, { method: "PUT", headers, body: Uint8Array.from(bytes) });
  if (response.status !== 201) throw new Error(`PUT ${url}: status ${response.status}, ${await response.text()}`);
}

function headersOf(target: PushTarget): Record<string, string> {
  return target.authorization === undefined ? {} : { authorization: target.authorization };
}

/** A layer of incompressible bytes. */
export function bulkyLayer(size: number): BuiltLayer {
  return makeLayer(makeTar([{ name: "bulk", content: randomBytes(size) }]));
}
