// Leaks are found by name; resources that belong to a pod, or are about to be removed, are not reported.

import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, rmdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { detectCgroups } from "../native/index.ts";
import { cgroupDirectories } from "./cgroups.ts";
import { findLeaks } from "./leaks.ts";
import { ownerOfScope, scopeDescription } from "./systemd/scope-owner.ts";

const execute = promisify(execFile);
const settleMs = 300;

interface Place extends AsyncDisposable {
  readonly root: string;
  readonly state: string;
  readonly cgroupRoot: string;
  readonly units: string;
}

async function emptyHost(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-leaks-"));
  const [root, state] = [join(directory, "root"), join(directory, "run")];
  await mkdir(join(directory, "netns"));
  for (const each of ["state", "cni", "image/containers"]) await mkdir(join(root, each), { recursive: true });
  await mkdir(join(state, "pods"), { recursive: true });
  return {
    root,
    state,
    cgroupRoot: `/${basename(directory)}`,
    units: join(directory, "transient"),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

const newId = () => randomBytes(32).toString("hex");

test("leaks of each kind are found, with the pod or container that they were created for", async () => {
  await using undo = new AsyncDisposableStack();
  const place = undo.use(await emptyHost());
  const { root, state, cgroupRoot } = place;
  const cgroups = await detectCgroups();
  const [known, lost] = [newId(), newId()];
  const [top = ""] = cgroupDirectories(cgroups, cgroupRoot);
  undo.defer(() => rmdir(top));
  await writeFile(join(root, "state", `${known}.json`), "{}");
  for (const id of [known, lost]) {
    const pod = join(state, "pods", id);
    await mkdir(join(pod, "mount"), { recursive: true });
    await execute("mount", ["-t", "tmpfs", "tmpfs", join(pod, "mount")]);
    undo.defer(() => execute("umount", [join(pod, "mount")]).then(() => undefined));
    await mkdir(join(root, "image/containers", id));
    await writeFile(join(state, "../netns", id), "");
    await writeFile(join(root, "cni", `${id}.json`), "{}");
    await writeFile(join(pod, "run"), "sleep 60");
    const monitor = spawn("bash", ["-c", `exec -a keelson-monitor sh run ${pod}`], { cwd: pod });
    await expect.poll(() => readFile(`/proc/${monitor.pid}/cmdline`, "utf8")).toMatch(/^keelson-monitor\0/);
    undo.defer(async () => {
      monitor.kill("SIGKILL");
      await once(monitor, "exit");
    });
    await mkdir(join(top, id), { recursive: true });
    undo.defer(() => rmdir(join(top, id)));
  }

  const leaks = await findLeaks({ ...place, cgroups }, settleMs);
  const own = leaks.filter(({ id }) => id === lost);
  expect(own.map(({ kind }) => kind).sort()).toEqual(
    ["cgroup", "monitor", "mount", "network lease", "network namespace", "pod directory", "writable layer"].sort(),
  );
  expect(own.find(({ kind }) => kind === "mount")?.object).toBe(join(state, "pods", lost, "mount"));
  expect(leaks.filter(({ id }) => id === known)).toEqual([]);
});

test("network namespaces of another Keelson beside this one, and of other programs, are not reported", async () => {
  await using undo = new AsyncDisposableStack();
  const place = undo.use(await emptyHost());
  const [lost, other] = [newId(), newId()];
  await mkdir(join(place.state, "../other/pods", other), { recursive: true });
  for (const name of [lost, other, "cni-8f0e", "blue"]) await writeFile(join(place.state, "../netns", name), "");
  const leaks = await findLeaks({ ...place, cgroups: await detectCgroups() }, settleMs);
  expect(leaks.map(({ kind, id }) => [kind, id])).toEqual([["network namespace", lost]]);
});

test("mounts are also found when the state directory is reached through a symlink, such as /var/run", async () => {
  await using undo = new AsyncDisposableStack();
  const { state, ...place } = undo.use(await emptyHost());
  const link = `${state}-link`;
  await symlink(state, link);
  const mount = join(state, "pods", newId());
  await mkdir(mount);
  await execute("mount", ["-t", "tmpfs", "tmpfs", mount]);
  undo.defer(() => execute("umount", [mount]).then(() => undefined));
  const leaks = await findLeaks({ ...place, state: link, cgroups: await detectCgroups() }, settleMs);
  expect(leaks).toContainEqual(expect.objectContaining({ kind: "mount", object: mount }));
});

test("pod scopes are found in any slice, except those of another Keelson", async () => {
  await using place = await emptyHost();
  const v2 = join(place.root, "cgroup");
  const slice = join(v2, "kubepods.slice/kubepods-pod1.slice");
  const [own, unsaid, foreign] = [newId(), newId(), newId()];
  const pod = { namespace: "ns of /run/a", name: "web" };
  await mkdir(place.units);
  for (const id of [own, unsaid, foreign]) await mkdir(join(slice, `keelson-${id}.scope/monitor`), { recursive: true });
  for (const [id, state] of [[own, place.state] as const, [foreign, "/run/other 50%"] as const]) {
    const description = scopeDescription(pod, state).replaceAll("%", "%%");
    const unit = `# This is a transient unit file.\n[Unit]\nDescription=${description}\n\n[Scope]\nDelegate=yes\n`;
    await writeFile(join(place.units, `keelson-${id}.scope`), unit);
  }
  const cgroups = { unified: true, v2, v1: new Map() };
  const leaks = await findLeaks({ ...place, cgroups }, settleMs);
  expect(leaks.map(({ id }) => id).sort()).toEqual([own, unsaid].sort());
  expect(await ownerOfScope(`keelson-${foreign}.scope`, place.units)).toBe("/run/other 50%");
});

test("scopes are found while sibling cgroups come and go", async () => {
  await using place = await emptyHost();
  const v2 = join(place.root, "cgroup");
  const id = newId();
  await mkdir(join(v2, `kubepods.slice/keelson-${id}.scope`), { recursive: true });
  const done = new AbortController();
  const churn = async () => {
    for (let n = 0; !done.signal.aborted; n += 1) {
      await mkdir(join(v2, `system.slice/s${n % 50}/a/b`), { recursive: true });
      await rm(join(v2, `system.slice/s${(n + 25) % 50}`), { recursive: true, force: true });
    }
  };
  const churning = churn();
  const cgroups = { unified: true, v2, v1: new Map() };
  try {
    for (let n = 0; n < 60; n += 1)
      expect((await findLeaks({ ...place, cgroups }, 1)).map((leak) => leak.id)).toEqual([id]);
  } finally {
    done.abort();
    await churning;
  }
});

test("a resource that is removed, or gets its record, between the two scans is not a leak", async () => {
  await using place = await emptyHost();
  const { root, state } = place;
  const [going, coming] = [newId(), newId()];
  for (const id of [going, coming]) await mkdir(join(state, "pods", id));
  const found = findLeaks({ ...place, cgroups: await detectCgroups() }, settleMs);
  setTimeout(async () => {
    await rm(join(state, "pods", going), { recursive: true });
    await writeFile(join(root, "state", `${coming}.json`), "{}");
  }, settleMs / 3);
  expect((await found).filter(({ id }) => id === going || id === coming)).toEqual([]);
});

test("unreadable records are reported as an error, and no pod is called a leak", async () => {
  await using place = await emptyHost();
  await mkdir(join(place.state, "pods", newId()));
  const records = join(place.root, "state");
  const isSaid = async (why: string) =>
    await expect(findLeaks({ ...place, cgroups: await detectCgroups() }, settleMs)).rejects.toMatchObject({
      code: "FailedPrecondition",
      message: expect.stringContaining(`${records} cannot be read: ${why}`),
    });
  await rm(records, { recursive: true });
  // A wrong root, or its disk is not mounted.
  await isSaid("ENOENT");
  await writeFile(records, "");
  await isSaid("ENOTDIR");
});
