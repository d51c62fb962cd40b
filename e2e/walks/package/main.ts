// `npm run e2e:package`: builds the Debian package and tests it on a separate machine (machine.ts): installed, started
// by systemd, upgraded and restarted while a pod runs, removed, purged; and installed where no systemd runs. All of
// this on Debian 12 and on Debian 13.
// The last line is "N passed, N failed".

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { defaultNetwork } from "../../../cni/default-network.ts";
import { buildBusyboxImage } from "../../fixtures/busybox-image.ts";
import { createSteps, until } from "../../fixtures/steps.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";
import { boot, debianTree, discard, type Machine, namesIn, unpackTree } from "./machine.ts";
import { callOnce, connectTo, image, type Pod, removePod, startPod } from "./pod.ts";

const execute = promisify(execFile);
const repository = join(import.meta.dirname, "../../..");
const later = "99.0.0";

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const { step, thrown, conclude } = createSteps(say);
await walk().catch(thrown);
process.exitCode = conclude() ? 0 : 1;

async function walk(): Promise<void> {
  const packages = await mkdtemp(join(tmpdir(), "keelson-packages-"));
  try {
    const version = await step("npm run package builds a .deb", () => build(packages));
    await step("the same package is built with a higher version", () => raise(packages, version));
    for (const suite of ["bookworm", "trixie"]) {
      say(`== Debian ${suite}`);
      const tar = await debianTree(suite, toolsDirectory(process.env));
      await walkOn(tar, packages, version).catch(thrown);
    }
  } finally {
    await rm(packages, { recursive: true });
  }
}

async function walkOn(treeTar: string, packages: string, version: string): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "keelson-package-"));
  undo.defer(() => discard(directory));
  const tree = await unpackTree(treeTar, directory);
  for (const each of [version, later]) await copyFile(join(packages, `keelson_${each}.deb`), `${tree}${deb(each)}`);
  await step("without systemd: installed, run, purged, and nothing is left behind", () =>
    withoutSystemd(tree, version),
  );

  const machine = await step("Debian's systemd starts", () => boot(directory));
  undo.defer(() => machine.off());
  await buildBusyboxImage(join(tree, "root/busybox"), image);
  await writeNetwork(tree);
  const before = await namesIn(tree);

  await step("installed: the daemon runs and this host passes its check", async () => {
    await machine.must(`apt-get install --yes --quiet --no-install-recommends ${deb(version)}`);
    assert.match(await machine.must("systemctl is-active keelson.service"), /^active/);
    assert.match(await machine.must("keelson --version"), new RegExp(`^keelson ${version} `));
    assert.match(await machine.must("keelson check"), /^ok +native programs/m);
    const completed = "_completion_loader keelson; complete -p keelson";
    const complete = `bash -c '. /usr/share/bash-completion/bash_completion; ${completed}'`;
    assert.match(await machine.must(complete), /-F _keelson keelson/);
    assert.match(await machine.must("zcat /usr/share/man/man*/keelson*"), /^\.TH KEELSON\.TOML 5.*^\.TH KEELSON 8/ms);
  });
  const pod = await step("an image is loaded and a pod runs", async () => {
    await machine.must("keelson image load /root/busybox");
    return await startPod(machine, directory);
  });
  await step(
    "restarted under a client that makes calls continuously: no call is refused, the pod is untouched",
    async () => {
      await machine.must("systemctl restart keelson.service");
      await pod.isUntouched();
      await restartUnderCalls(machine);
      await pod.isUntouched();
    },
  );
  await step("reloaded: systemd waits for the reload and reports the result", async () => {
    await machine.must("systemctl reload keelson.service");
    await until("its status reports the reload", 5_000, async () => {
      const status = await machine.must("systemctl show --property=StatusText,ActiveState keelson.service");
      return (status.includes("StatusText=Configuration reloaded") && status.includes("=active")) || undefined;
    });
  });
  await step(
    "an invalid configuration while a client waits: seconds between two starts, and the daemon starts once it is corrected",
    async () => {
      await misconfigure(machine);
      await pod.isUntouched();
    },
  );
  await step("frozen: the watchdog kills the daemon and it is restarted, the pod is untouched", async () => {
    await freeze(machine);
    await pod.isUntouched();
  });
  await step("upgraded: a new daemon, the pod is untouched", async () => {
    const from = await mainPid(machine);
    await machine.must(`apt-get install --yes --quiet --no-install-recommends ${deb(later)}`);
    assert.notEqual(await mainPid(machine), from);
    assert.match(await machine.must("systemctl is-active keelson.service"), /^active/);
    await pod.isUntouched();
  });
  await step("removed: no daemon, the pod keeps running", async () => {
    assert.match(await machine.must("apt-get remove --yes --quiet keelson"), /pods that keep running without it: 1\./);
    assert.notEqual((await machine.run("systemctl is-active keelson.service")).code, 0);
    await pod.runsOn();
  });
  await step("purged while a pod runs: refused, and nothing is lost", async () => {
    const { code, text } = await machine.run("dpkg --purge keelson");
    assert.notEqual(code, 0);
    assert.match(text, /pods still running: 1, so \/var\/lib\/keelson is kept/);
    await pod.runsOn();
  });
  await step("reinstalled: it finds the pod and can remove it", () => takeOver(machine, version, pod));
  await step("purged: only the user's files are left", async () => {
    await machine.must("apt-get purge --yes --quiet keelson");
    assert.deepEqual(differences(before, await namesIn(tree)), []);
    assert.equal((await machine.run("test -e /run/keelson")).code, 1);
    assert.equal((await machine.run("grep -E ' /(run|var/lib)/keelson' /proc/self/mountinfo")).code, 1);
  });
}

/** Returns the version. Uses fast compression, because the package is only for this test. */
async function build(into: string): Promise<string> {
  const env = { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: "zstd", DPKG_DEB_COMPRESSOR_LEVEL: "1" };
  await execute("npm", ["run", "--silent", "package"], { cwd: repository, env });
  const { version } = JSON.parse(await readFile(join(repository, "package.json"), "utf8"));
  const file = `keelson_${version}_${await architecture()}.deb`;
  await copyFile(join(repository, "dist", file), join(into, `keelson_${version}.deb`));
  return version;
}

async function architecture(): Promise<string> {
  return (await execute("dpkg", ["--print-architecture"])).stdout.trim();
}

async function raise(packages: string, version: string): Promise<void> {
  const scratch = join(packages, "raised");
  await execute("dpkg-deb", ["--raw-extract", join(packages, `keelson_${version}.deb`), scratch]);
  const control = join(scratch, "DEBIAN/control");
  await writeFile(control, (await readFile(control, "utf8")).replace(/^Version: .*$/m, `Version: ${later}`));
  await execute("dpkg-deb", ["-Zzstd", "-z1", "--build", scratch, join(packages, `keelson_${later}.deb`)]);
  await rm(scratch, { recursive: true });
}

function deb(version: string): string {
  return `/root/keelson_${version}.deb`;
}

/** As when a node image is built: no systemd is running. */
async function withoutSystemd(tree: string, version: string): Promise<void> {
  const before = await namesIn(tree);
  const inside = async (...command: string[]) =>
    (await execute("unshare", ["--mount", "--fork", "--pid", "--mount-proc", `--root=${tree}`, ...command])).stdout;
  await inside("dpkg", "--install", deb(version));
  assert.match(await inside("keelson", "--version"), new RegExp(`^keelson ${version} `));
  await inside("dpkg", "--purge", "keelson");
  assert.deepEqual(differences(before, await namesIn(tree)), []);
}

/** The administrator's files, which no package removes: a network that uses the package's own plugins. */
async function writeNetwork(tree: string): Promise<void> {
  await mkdir(join(tree, "etc/keelson/config.toml.d"), { recursive: true });
  await writeFile(join(tree, "etc/keelson/config.toml.d/plugins.toml"), '[cni]\nbin_dirs = ["/usr/lib/keelson/cni"]\n');
  await mkdir(join(tree, "etc/cni/net.d"), { recursive: true });
  const network = { podCidrs: ["10.99.0.0/24"], bridge: "keelson0", dataDir: "/var/lib/cni" };
  await writeFile(join(tree, "etc/cni/net.d/10-keelson.conflist"), defaultNetwork(network));
}

/** No connection during a restart is refused: it waits for the next daemon. */
async function restartUnderCalls(machine: Machine): Promise<void> {
  const restarting = machine.must("systemctl restart keelson.service");
  let ended = false;
  void restarting.finally(() => {
    ended = true;
  });
  let calls = 0;
  while (!ended) {
    await callOnce(machine);
    calls += 1;
  }
  await restarting;
  assert(calls > 0);
}

/**
 * A waiting client makes the socket readable, so systemd starts the daemon again, regardless of the service's start
 * limit.
 */
async function misconfigure(machine: Machine): Promise<void> {
  const file = "/etc/keelson/config.toml.d/wrong.toml";
  await machine.must(`echo 'wrong = 1' >${file} && systemctl stop keelson.service`);
  const client = await connectTo(machine);
  try {
    const starts = new Set<string>();
    for (const until = Date.now() + 5_000; Date.now() < until; await sleep(50))
      starts.add(await machine.must("systemctl show --property=ExecMainStartTimestampMonotonic keelson.service"));
    // The previous daemon's start, and one start; on a slow machine one more.
    assert(starts.size <= 3, `${starts.size - 1} starts in 5 s`);
  } finally {
    client.destroy();
  }
  await machine.must(`rm ${file} && systemctl restart keelson.service`);
}

/** A frozen daemon does not answer, and does not exit by itself. */
async function freeze(machine: Machine): Promise<void> {
  const drop = "/run/systemd/system/keelson.service.d";
  await machine.must(`mkdir -p ${drop} && printf '[Service]\\nWatchdogSec=2\\n' > ${drop}/watchdog.conf`);
  await machine.must("systemctl daemon-reload && systemctl restart keelson.service");
  const from = await mainPid(machine);
  await machine.must(`kill -STOP ${from.trim().replace("MainPID=", "")}`);
  await until("another daemon runs", 20_000, async () => {
    const now = await mainPid(machine);
    return (now !== from && now !== "MainPID=0\n") || undefined;
  });
  await machine.must(`rm -r ${drop} && systemctl daemon-reload && systemctl restart keelson.service`);
}

async function mainPid(machine: Machine): Promise<string> {
  return await machine.must("systemctl show --property=MainPID keelson.service");
}

async function takeOver(machine: Machine, version: string, pod: Pod): Promise<void> {
  await machine.must(`apt-get install --yes --quiet --no-install-recommends --allow-downgrades ${deb(version)}`);
  await pod.isUntouched();
  await removePod(machine, pod);
}

function differences(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  const lost = [...before].filter((name) => !after.has(name)).map((name) => `- ${name}`);
  const added = [...after].filter((name) => !before.has(name)).map((name) => `+ ${name}`);
  return [...lost, ...added];
}
