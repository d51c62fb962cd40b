// The steps of CreateContainer and StartContainer in pod/container-create.ts, pod/container-life.ts and the monitor's
// native/monitor/setup/container_init.cc, with the faults for each.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { absent, dead, full, type Lift, readOnlyCgroups, stopped } from "../../fixtures/hindrances.ts";
import { placesOf } from "../../fixtures/host-view.ts";
import type { StepCase, Target } from "./scene.ts";

const places = ({ scene }: Target) => placesOf(scene.node.directory);
const records = (target: Target) => places(target).records;
const writableLayers = (target: Target) => join(places(target).image, "containers");
const bundles = (target: Target) => join(places(target).pods, target.podId, "containers");
const filters = ({ scene }: Target) => join(scene.node.directory, "run", "seccomp");
const logs = ({ pod }: Target) => pod.logDirectory;
const source = ({ scene, name }: Target) => join(scene.node.directory, `${name}-source`);
const profile = ({ scene, name }: Target) => join(scene.node.directory, `${name}.json`);

/** The image's only layer. */
async function layer(target: Target): Promise<string> {
  const directory = join(places(target).image, "layers");
  const [name = ""] = await readdir(directory);
  return join(directory, name);
}

async function withSource(target: Target): Promise<object> {
  await mkdir(join(source(target), "inner", "sub"), { recursive: true });
  return { mounts: [{ hostPath: join(source(target), "inner"), containerPath: "/data" }] };
}

/** A profile that no earlier case has had compiled. */
async function withProfile(target: Target): Promise<object> {
  const rule = { names: ["acct"], action: "SCMP_ACT_ERRNO", errnoRet: 1 + (target.name.length % 100) };
  const text = JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [rule], comment: target.name });
  await writeFile(profile(target), text);
  return {
    linux: { securityContext: { seccomp: { profileType: 2, localhostRef: profile(target) } } },
  };
}

/** Replaces the file by a FIFO without a writer. */
async function fifo(path: string): Promise<Lift> {
  const lift = existsSync(path) ? await absent(path) : async () => await rm(path, { force: true });
  execFileSync("mkfifo", [path]);
  return async () => {
    await rm(path, { force: true });
    await lift();
  };
}

const logInDirectory = async (): Promise<object> => ({ logPath: "sub/c.log" });

function create(
  step: string,
  kind: "fail" | "hang",
  inject: StepCase["inject"],
  config?: StepCase["config"],
): StepCase {
  return { operation: "CreateContainer", step, kind, inject, ...(config === undefined ? {} : { config }) };
}

function start(step: string, kind: "fail" | "hang", inject: StepCase["inject"], config?: StepCase["config"]): StepCase {
  return { operation: "StartContainer", step, kind, inject, ...(config === undefined ? {} : { config }) };
}

export const createSteps: readonly StepCase[] = [
  create("writable layer", "fail", (target) => full(writableLayers(target))),
  create("writable layer", "hang", (target) => dead(writableLayers(target))),
  create("the image's files (account)", "fail", async (target) => absent(await layer(target))),
  create("the image's files (account)", "hang", async (target) => dead(join(await layer(target), "root"))),
  create("spec: a mount's source", "fail", (target) => full(source(target)), withSource),
  create("spec: a mount's source", "hang", (target) => dead(source(target)), withSource),
  create("spec: the seccomp profile", "fail", (target) => absent(profile(target)), withProfile),
  create("spec: the seccomp profile", "hang", (target) => fifo(profile(target)), withProfile),
  create("the compiled filter", "fail", (target) => full(filters(target)), withProfile),
  create("the compiled filter", "hang", (target) => dead(filters(target)), withProfile),
  create("bundle", "fail", (target) => full(bundles(target))),
  create("bundle", "hang", (target) => dead(bundles(target))),
  create("record", "fail", (target) => full(records(target))),
  create("record", "hang", (target) => dead(records(target))),
];

/** Writing the record is not a step: the call does not wait for it. */
export const startSteps: readonly StepCase[] = [
  start("the monitor's call", "hang", async (target) => stopped(await monitorOf(target))),
  start("bundle: config.json", "fail", (target) => absent(join(bundles(target), target.containerId, "config.json"))),
  start("bundle: config.json", "hang", (target) => dead(join(bundles(target), target.containerId))),
  start("rootfs: its layers", "fail", async (target) => absent(await layer(target))),
  start("rootfs: its layers", "hang", async (target) => dead(join(await layer(target), "root"))),
  start("mounts: a source", "fail", (target) => absent(source(target)), withSource),
  start("mounts: a source", "hang", (target) => dead(source(target)), withSource),
  start(
    "working directory",
    "hang",
    (target) => dead(join(source(target), "inner", "sub")),
    async (target) => ({ workingDir: "/data/sub", ...(await withSource(target)) }),
  ),
  start("cgroup", "fail", (target) => readOnlyCgroups(`${places(target).cgroup}/${target.podId}`)),
  start("cgroup", "hang", (target) => frozen(`${places(target).cgroup}/${target.podId}`)),
  start("the compiled filter", "fail", (target) => absent(filters(target)), withProfile),
  start("log directory", "fail", (target) => full(logs(target)), logInDirectory),
  start("log directory", "hang", (target) => dead(logs(target)), logInDirectory),
  start("log file", "fail", (target) => full(logs(target))),
  start("log file", "hang", (target) => dead(logs(target))),
  start("log file, a FIFO", "hang", (target) => fifo(join(logs(target), "c.log"))),
];

async function monitorOf({ scene, podId }: Target): Promise<number> {
  const { info } = await scene.node.client.podSandboxStatus({ podSandboxId: podId, verbose: true });
  return Number(JSON.parse(info?.info ?? "{}").pid);
}

/** Processes that join the cgroup are frozen from then on. */
async function frozen(cgroup: string): Promise<Lift> {
  const v1 = join("/sys/fs/cgroup/freezer", cgroup, "freezer.state");
  const [file, freeze, thaw] = existsSync(v1)
    ? [v1, "FROZEN", "THAWED"]
    : [join("/sys/fs/cgroup", cgroup, "cgroup.freeze"), "1", "0"];
  await writeFile(file, freeze);
  return async () => await writeFile(file, thaw).catch(() => undefined);
}
