// Volumes on the host: their content, mode and group, and the checks of host paths.

import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, stat, statfs, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runtime } from "../api/generated/messages.js";
import type { PodSpec } from "./supported.ts";
import { mountsOf, type PreparedVolume, prepareVolumes } from "./volumes.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-volumes-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

type Volume = NonNullable<PodSpec["volumes"]>[number];

const files = new Map([
  ["a", Buffer.from("one")],
  ["b", Buffer.from([0, 255])],
]);
const values = { variables: files, files };
const manifest = { configMaps: new Map([["n/c", values]]), secrets: new Map([["n/s", values]]) };

async function prepare(volume: Omit<Volume, "name">, fsGroup?: number) {
  const spec = {
    containers: [],
    volumes: [{ name: "v", ...volume }],
    ...(fsGroup ? { securityContext: { fsGroup } } : {}),
  };
  const volumes = new Map<string, PreparedVolume>();
  const { signal } = new AbortController();
  await prepareVolumes(spec, { directory, namespace: "n", manifest, signal }, volumes);
  const prepared = volumes.get("v");
  if (prepared?.kind !== "host") throw new Error("the volume is not on the host");
  return prepared;
}

const mode = async (path: string) => ((await stat(path)).mode & 0o7777).toString(8);

describe("a ConfigMap or a Secret", () => {
  test("is mounted with its keys as read-only files", async () => {
    const { path, readOnly, isPodsOwn } = await prepare({ configMap: { name: "c" } });
    expect({ readOnly, isPodsOwn }).toEqual({ readOnly: true, isPodsOwn: true });
    expect(await readFile(join(path, "b"))).toEqual(Buffer.from([0, 255]));
    expect(await mode(join(path, "a"))).toBe("644");
  });

  test("can have its own modes, paths and group", async () => {
    const items = [
      { key: "a", path: "x/y", mode: 0o600 },
      { key: "none", path: "z" },
    ];
    const { path } = await prepare({ secret: { secretName: "s", defaultMode: 0o400, items, optional: true } }, 2000);
    expect(await mode(join(path, "x/y"))).toBe("640");
    expect((await stat(join(path, "x/y"))).gid).toBe(2000);
    await expect(stat(join(path, "z"))).rejects.toThrow("ENOENT");
  });

  test("with an empty list of items has all of its keys", async () => {
    const { path } = await prepare({ configMap: { name: "c", items: [] } });
    expect(await readFile(join(path, "a"), "utf8")).toBe("one");
  });

  test("that is optional and missing is an empty directory", async () => {
    const { path } = await prepare({ configMap: { name: "none", optional: true } });
    expect(await mode(path)).toBe("755");
  });
});

test("an emptyDir is world-writable, and with fsGroup has the group and the setgid bit", async () => {
  expect(await mode((await prepare({ emptyDir: {} })).path)).toBe("777");
  const { path } = await prepare({ emptyDir: {} }, 2000);
  expect([await mode(path), (await stat(path)).gid]).toEqual(["2777", 2000]);
});

test("an emptyDir in memory is a tmpfs of its size limit", async () => {
  const { path } = await prepare({ emptyDir: { medium: "Memory", sizeLimit: "8Mi" } });
  try {
    const { type, bsize, blocks } = await statfs(path);
    expect([type, bsize * blocks]).toEqual([0x01021994, 8 << 20]);
    expect(await mode(path)).toBe("777");
  } finally {
    execFileSync("umount", ["--lazy", path]);
  }
});

test("volumes that are prepared already are not prepared again, and an image's pull policy is kept", async () => {
  const ready = { kind: "host", path: "/there", readOnly: false, isPodsOwn: true } as const;
  const prepared = new Map<string, PreparedVolume>([["v", ready]]);
  const image = { name: "i", image: { reference: "x:1", pullPolicy: "Never" } };
  const options = { directory, namespace: "n", manifest, signal: new AbortController().signal };
  await prepareVolumes({ containers: [], volumes: [{ name: "v", emptyDir: {} }, image] }, options, prepared);
  expect(prepared.get("v")).toBe(ready);
  expect(prepared.get("i")).toEqual({ kind: "image", reference: "x:1", pullPolicy: "Never" });
});

describe("a host path", () => {
  test.each([
    ["Directory", "it does not exist"],
    ["File", "it does not exist"],
    ["Socket", "it does not exist"],
  ])("of type %s that does not exist is rejected", async (type, problem) => {
    const path = join(directory, "missing");
    await expect(prepare({ hostPath: { path, type } })).rejects.toThrow(`cannot use the host path ${path}: ${problem}`);
  });

  test("of the wrong type is rejected", async () => {
    const path = join(directory, "file");
    await writeFile(path, "");
    for (const type of ["Directory", "DirectoryOrCreate", "Socket", "CharDevice", "BlockDevice"])
      await expect(prepare({ hostPath: { path, type } })).rejects.toThrow("it is not a ");
    await prepare({ hostPath: { path: "/dev/null", type: "CharDevice" } });
  });

  test("is created if its type says so, and left unchanged if it exists", async () => {
    const [file, tree] = [join(directory, "f"), join(directory, "a/b")];
    for (let twice = 0; twice < 2; twice++) {
      await prepare({ hostPath: { path: file, type: "FileOrCreate" } });
      await prepare({ hostPath: { path: tree, type: "DirectoryOrCreate" } });
      expect(await readFile(file, "utf8")).toBe(twice === 0 ? "" : "kept");
      await writeFile(file, "kept");
    }
    await symlink(tree, join(directory, "link"));
    await prepare({ hostPath: { path: join(directory, "link"), type: "Directory" } });
  });

  test("without a type is not checked", async () => {
    expect(await prepare({ hostPath: { path: "/no/such" } })).toMatchObject({
      path: "/no/such",
      readOnly: false,
      isPodsOwn: false,
    });
  });
});

const { PROPAGATION_PRIVATE, PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER } = runtime.v1.MountPropagation;

test("mounts: propagation, read-only by volume or mount, relative target paths, subPath, and images", () => {
  const volumes = new Map([
    ["config", { kind: "host", path: "/c", readOnly: true, isPodsOwn: true }],
    ["data", { kind: "host", path: "/d", readOnly: false, isPodsOwn: false }],
    ["image", { kind: "image", reference: "x:1", pullPolicy: undefined }],
  ] as const);
  const mount = (name: string, mountPath: string, more = {}) => ({ name, mountPath, ...more });
  const volumeMounts = [
    mount("config", "/one", { subPath: "k" }),
    mount("data", "two"),
    mount("data", "/three", { readOnly: true, recursiveReadOnly: "Enabled" }),
    mount("data", "/shared", { mountPropagation: "Bidirectional" }),
    mount("data", "/below", { mountPropagation: "HostToContainer" }),
    mount("image", "/four", { subPath: "bin" }),
  ];
  expect(mountsOf({ name: "c", volumeMounts }, volumes, (reference) => `id of ${reference}`)).toMatchObject([
    { containerPath: "/one", hostPath: "/c/k", readonly: true, selinuxRelabel: true },
    { containerPath: "/two", hostPath: "/d", readonly: false, selinuxRelabel: false },
    { containerPath: "/three", readonly: true, recursiveReadOnly: true, propagation: PROPAGATION_PRIVATE },
    { containerPath: "/shared", propagation: PROPAGATION_BIDIRECTIONAL },
    { containerPath: "/below", propagation: PROPAGATION_HOST_TO_CONTAINER },
    { containerPath: "/four", image: { image: "id of x:1" }, imageSubPath: "bin", readonly: true },
  ]);
});
