// Stand-ins for every image that critest v1.37.0 names, built from Debian's packages.
//
// They do what the specs require of the originals (critest's pkg/validate and images/), and nothing else.
// One registry serves all of them, so a repository here is the original's path without its registry.

import { execFile } from "node:child_process";
import { chmod, copyFile, link, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  type BuiltImage,
  type BuiltLayer,
  type ContainerDefaults,
  hostArchitecture,
  layerFrom,
  makeImage,
  makeLayer,
  makeTar,
  pushImage,
} from "../../../image/testing/build-image.ts";
import { buildBusybox, unpackPackages } from "../../fixtures/debian.ts";

const execute = promisify(execFile);

/** The registries that critest's references name. */
export const critestRegistries = ["registry.k8s.io", "k8s.gcr.io", "gcr.io", "docker.io", "public.ecr.aws"];

export interface StandIn {
  readonly repository: string;
  /** Absent for an image that is pulled by digest. */
  readonly tag: string | undefined;
  readonly image: BuiltImage;
}

const staging = "k8s-staging-cri-tools";
const suite = "e2e-test-images";

/**
 * The image that critest pulls by digest. It is identical on every machine of an architecture, because it depends on no
 * compiler or compressor.
 */
export const imageByDigest: BuiltImage = makeImage({
  layers: [makeLayer(makeTar([{ name: "etc/" }, { name: "etc/stand-in", content: "test-image-digest\n" }]), "none")],
  defaults: { Cmd: ["/none"] },
});

/** Builds all images. The first build takes half a minute and downloads from Debian's archive into `cache`. */
export async function buildStandIns(cache: string): Promise<readonly StandIn[]> {
  const base = await busyboxRoot(cache);
  // Sequentially, because they share the downloads in `cache`.
  const webServer = await nginx(cache, 80);
  const hostWebServer = await nginx(cache, 12003);
  const httpd = await apache(cache);
  const setuid = await setuidProgram();
  const busybox = (comment: string, defaults: ContainerDefaults = {}) =>
    makeImage({ layers: [base], comment, defaults: { Env: [path], Cmd: ["sh"], ...defaults } });
  const server = (layer: BuiltLayer, Cmd: readonly string[]) =>
    makeImage({ layers: [base, layer], defaults: { Env: [path], Cmd } });

  const nginxCommand = ["nginx", "-g", "daemon off;"];
  const tag = (repository: string, name: string, image: BuiltImage): StandIn => ({ repository, tag: name, image });
  const test = (name: string, version: string, image: BuiltImage) =>
    tag(`${staging}/test-image-${name}`, version, image);
  const user = (name: string, User: string) => test(`user-${name}`, "latest", busybox(name, { User }));
  const same = busybox("tags");
  return [
    tag(`${suite}/busybox`, "1.29-2", busybox("suite")),
    tag(`${suite}/nginx`, "1.14-2", server(webServer, nginxCommand)),
    tag(`${suite}/httpd`, "2.4.39-4", server(httpd, ["httpd", "-f", "/etc/httpd.conf", "-DFOREGROUND"])),
    tag(`${suite}/nonewprivs`, "1.3", makeImage({ layers: [setuid], defaults: { Entrypoint: ["/nonewprivs"] } })),
    tag(`${staging}/hostnet-nginx-${hostArchitecture}`, "latest", server(hostWebServer, nginxCommand)),
    tag("pause", "3.9", busybox("pause", { Cmd: ["sleep", "infinity"] })),

    ...["1", "2", "3"].map((number) => test(number, "latest", busybox(`test-image-${number}`))),
    ...["1", "2", "3"].map((number) => test("tags", number, same)),
    test("latest", "latest", busybox("latest")),
    test("tag", "test", busybox("tag")),
    test("tag", "all", busybox("all")),
    { repository: `${staging}/test-image-digest`, tag: undefined, image: imageByDigest },

    user("uid", "1002"),
    user("username", "www-data"),
    user("uid-group", "1003:1004"),
    user("username-group", "www-data:1004"),
    test("predefined-group", "latest", busybox("predefined-group", { User: "1000" })),

    // For the benchmarks, which critest skips by default.
    ...["1", "1-glibc", "1-musl", "1-uclibc", "1.35.0-glibc"].flatMap((version) => [
      tag("library/busybox", version, busybox(`busybox ${version}`)),
      tag("docker/library/busybox", version, busybox(`busybox ${version}`)),
    ]),
  ];
}

/** Pushes them to the registry on loopback, through the Distribution API. */
export async function pushStandIns(
  registry: { address: string; authorization: string | undefined },
  images: readonly StandIn[],
) {
  for (const { repository, tag, image } of images) await pushImage(registry, repository, image, tag);
}

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// User 1000 is in group 50000 only through this image's /etc/group, as the SupplementalGroupsPolicy specs require.
const accounts = {
  passwd: [
    "root:x:0:0:root:/root:/bin/sh",
    "www-data:x:33:33:www-data:/var/www:/bin/false",
    "default-user:x:1000:1000::/home/default-user:/bin/sh",
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false",
  ],
  group: [
    "root:x:0:",
    "www-data:x:33:",
    "default-user:x:1000:",
    "group-defined-in-image:x:50000:default-user",
    "nogroup:x:65534:",
  ],
};

async function busyboxRoot(cache: string): Promise<BuiltLayer> {
  const program = await buildBusybox(cache);
  const { stdout: applets } = await execute(program, ["--list"]);
  return await layerFrom(async (root) => {
    for (const name of ["bin", "etc", "proc", "sys", "dev", "root", "run", "home/default-user", "var/www"])
      await mkdir(join(root, name), { recursive: true });
    await mkdir(join(root, "tmp"));
    await chmod(join(root, "tmp"), 0o1777);
    await symlink("/run", join(root, "var/run"));
    await copyFile(program, join(root, "bin/busybox"));
    const names = applets.split("\n").filter((name) => name !== "" && name !== "busybox");
    // Hard links, as in the original: the MaskedPaths spec masks /bin/ls and needs the other programs.
    for (const name of names) await link(join(root, "bin/busybox"), join(root, "bin", name));
    for (const [file, lines] of Object.entries(accounts))
      await writeFile(join(root, "etc", file), lines.map((line) => `${line}\n`).join(""));
  });
}

const libraries = ["libc6", "libcrypt1", "libpcre2-8-0"];

async function nginx(cache: string, port: number): Promise<BuiltLayer> {
  const configuration = `
    user www-data;
    worker_processes 1;
    pid /run/nginx.pid;
    error_log stderr;
    events {}
    http {
      access_log /dev/stdout;
      server { listen ${port}; root /var/www; }
    }`;
  return await layerFrom(async (root) => {
    await unpackPackages(["nginx", "libssl3", "zlib1g", ...libraries], root, cache);
    await mkdir(join(root, "etc/nginx"), { recursive: true });
    await writeFile(join(root, "etc/nginx/nginx.conf"), configuration);
    await mkdir(join(root, "var/lib/nginx"), { recursive: true });
    await mkdir(join(root, "var/log/nginx"), { recursive: true });
    await page(root, "nginx");
  });
}

async function apache(cache: string): Promise<BuiltLayer> {
  const configuration = [
    "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so",
    "LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so",
    "LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so",
    "User www-data",
    "Group www-data",
    "Listen 80",
    "PidFile /run/httpd.pid",
    "DocumentRoot /var/www",
    "ErrorLog /dev/stderr",
    "LogLevel notice",
  ];
  return await layerFrom(async (root) => {
    const needed = ["apache2-bin", "libapr1", "libaprutil1", "libexpat1", "libuuid1"];
    await unpackPackages([...needed, ...libraries], root, cache);
    // With its upstream name, which it writes to its log: the spec looks for "httpd" there.
    await symlink("apache2", join(root, "usr/sbin/httpd"));
    await writeFile(join(root, "etc/httpd.conf"), configuration.map((line) => `${line}\n`).join(""));
    await page(root, "httpd");
  });
}

async function page(root: string, name: string): Promise<void> {
  await mkdir(join(root, "var/www"), { recursive: true });
  await writeFile(join(root, "var/www/index.html"), `${name} of Keelson's tests\n`);
  // No spec needs the packages' manuals.
  await rm(join(root, "usr/share"), { recursive: true, force: true });
}

/** Prints its effective UID: the NoNewPrivs specs run it as UID 1000. */
async function setuidProgram(): Promise<BuiltLayer> {
  const source =
    '#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("Effective uid: %d\\n", (int)geteuid()); }\n';
  return await layerFrom(async (root) => {
    const program = join(root, "nonewprivs");
    await writeFile(`${program}.c`, source);
    await execute("gcc", ["-static", "-Os", "-s", "-o", program, `${program}.c`]);
    await rm(`${program}.c`);
    await chmod(program, 0o4755);
  });
}
