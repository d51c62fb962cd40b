// `npm run e2e:crictl`: the lifecycle of an image and a pod with the real crictl, checking every step, and comparing
// the host before and after.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type BuiltImage, busyboxLayer, makeImage, pushImage } from "../../../image/testing/build-image.ts";
import { startRegistry } from "../../../image/testing/registry.ts";
import { startDaemon } from "../../fixtures/daemon.ts";
import { createSteps, until } from "../../fixtures/steps.ts";
import { criTool, toolsDirectory } from "../../fixtures/tools.ts";
import { at, type Crictl, type JsonValue, openCrictl } from "./crictl.ts";
import { compareHost, stateAtRest } from "./host.ts";

const bridge = "keelson-walk0";
const prefix = "10.96.77";
const hostPort = 38080;
const repository = "walk/busybox";

/** Counts on stdout forever, prints hello on stderr, serves a web page. */
const script = `
  echo hello from stderr >&2
  echo page > /tmp/index.html
  httpd -p 8080 -h /tmp
  trap 'echo got TERM; exit 7' TERM
  number=0
  while true; do echo count $number; number=$((number + 1)); sleep 0.1; done`;

const { step, thrown, conclude } = createSteps((line) => process.stdout.write(`${line}\n`));
const crictlBinary = await criTool("crictl", toolsDirectory(process.env));
if (crictlBinary.kind === "unavailable") process.stdout.write(`skipped: ${crictlBinary.reason}\n`);
else {
  await walk(crictlBinary.path).catch(thrown);
  process.exitCode = conclude() ? 0 : 1;
}

async function walk(binary: string): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "keelson-walk-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const registry = await startRegistry();
  undo.defer(() => registry.stop());
  const image = makeImage({ layers: [await busyboxLayer()], defaults: { Cmd: ["sh"], Env: ["PATH=/bin"] } });
  await pushImage(registry, repository, image, "1");

  const daemon = await step("the server starts on empty directories", () =>
    startDaemon({ directory, network: { bridge, subnet: `${prefix}.0/24` } }),
  );
  undo.defer(() => daemon.stop());
  undo.defer(async () => {
    await promisify(execFile)("ip", ["link", "delete", bridge]).catch(() => "never created");
  });
  const crictl = await openCrictl(binary, daemon.socket, join(directory, "crictl.yaml"));
  // For a run that fails halfway; a complete one leaves nothing to remove.
  undo.defer(() => crictl.attempt("rmp", "--all", "--force").then(() => undefined));
  const before = await stateAtRest(daemon);

  await checkRuntime(crictl);
  const reference = `${registry.address}/${repository}`;
  await pull(crictl, reference, image);
  const pod = await runPod(crictl, directory);
  const container = await runContainer(crictl, pod, `${reference}:1`, image);
  await reachHostPort();
  await readLogs(crictl, container);
  await executeInside(crictl, container);
  await readStats(crictl, pod, container);
  await endContainer(crictl, container);
  await endPod(crictl, pod);
  await removeImage(crictl, `${reference}:1`);

  await step("the host is as it was before", () => compareHost(daemon, bridge, before));
}

async function checkRuntime(crictl: Crictl): Promise<void> {
  await step("version", async () => {
    const version = await crictl.run("version");
    assert.match(version, /^RuntimeName: {2}keelson$/m);
    assert.match(version, /^RuntimeApiVersion: {2}v1$/m);
    assert.match(version, /^RuntimeVersion: {2}\d+\.\d+\.\d+/m);
  });
  await step("info", async () => {
    const info = await crictl.json("info");
    const conditions = at(info, "status", "conditions");
    assert(Array.isArray(conditions));
    const states = new Map(conditions.map((condition: JsonValue) => [at(condition, "type"), at(condition, "status")]));
    assert.equal(states.get("RuntimeReady"), true);
    assert.equal(states.get("NetworkReady"), true);
    const handlers = at(info, "runtimeHandlers");
    assert(Array.isArray(handlers) && handlers.length > 0, "runtime handlers are listed");
  });
}

async function pull(crictl: Crictl, reference: string, image: BuiltImage): Promise<void> {
  await step("pull by tag", async () => {
    assert.match(await crictl.run("pull", `${reference}:1`), /Image is up to date for sha256:[0-9a-f]{64}/);
  });
  await step("pull by digest", async () => {
    assert.match(await crictl.run("pull", `${reference}@${image.digest}`), new RegExp(image.id));
  });
  await step("images: one, with tag, digest, id and size", async () => {
    const images = at(await crictl.json("images", "--output", "json"), "images");
    assert(Array.isArray(images));
    assert.equal(images.length, 1);
    assert.equal(at(images, 0, "id"), image.id);
    assert.deepEqual(at(images, 0, "repoTags"), [`${reference}:1`]);
    assert.deepEqual(at(images, 0, "repoDigests"), [`${reference}@${image.digest}`]);
    assert(Number(at(images, 0, "size")) > 0);
  });
  await step("inspecti", async () => {
    const status = at(await crictl.json("inspecti", `${reference}:1`), "status");
    assert.equal(at(status, "id"), image.id);
  });
  await step("pull of a missing tag fails with NotFound, and the list of images is unchanged", async () => {
    const { code, stderr } = await crictl.attempt("pull", `${reference}:missing`);
    assert.notEqual(code, 0);
    assert.match(stderr, /NotFound/);
    assert.equal((await crictl.run("images", "--quiet")).split("\n").length, 1);
  });
}

interface Pod {
  readonly id: string;
  readonly configFile: string;
  readonly logDirectory: string;
}

async function runPod(crictl: Crictl, directory: string): Promise<Pod> {
  const logDirectory = join(directory, "logs");
  await mkdir(logDirectory);
  const configFile = join(directory, "pod.json");
  const labels = { app: "walk", "example.com/ünïcode": "yes" };
  const annotations = { "example.com/note": 'with "quotes", ünïcode\nand a second line' };
  const config = {
    metadata: { name: "walk", namespace: "e2e", uid: "5b0a7c1e-walk", attempt: 0 },
    hostname: "walk-host",
    log_directory: logDirectory,
    dns_config: { servers: ["10.96.0.10"], searches: ["e2e.svc"], options: ["ndots:3"] },
    port_mappings: [{ protocol: 0, container_port: 8080, host_port: hostPort }],
    labels,
    annotations,
    linux: {},
  };
  await writeFile(configFile, JSON.stringify(config));

  const id = await step("runp", async () => {
    const printed = await crictl.run("runp", configFile);
    assert.match(printed, /^[0-9a-f]{64}$/);
    return printed;
  });
  await step("a second runp of the same pod returns the same pod", async () => {
    assert.equal(await crictl.run("runp", configFile), id);
  });
  await step("pods: one, ready", async () => {
    const items = at(await crictl.json("pods", "--output", "json"), "items");
    assert(Array.isArray(items));
    assert.equal(items.length, 1);
    assert.equal(at(items, 0, "id"), id);
    assert.equal(at(items, 0, "state"), "SANDBOX_READY");
    assert.deepEqual(at(items, 0, "metadata"), { name: "walk", namespace: "e2e", uid: "5b0a7c1e-walk", attempt: 0 });
  });
  await step("inspectp: address, labels and annotations as given", async () => {
    const status = at(await crictl.json("inspectp", id.slice(0, 13)), "status");
    assert.equal(at(status, "id"), id);
    assert.match(String(at(status, "network", "ip")), new RegExp(`^${prefix.replaceAll(".", "\\.")}\\.\\d+$`));
    assert.deepEqual(at(status, "labels"), labels);
    assert.deepEqual(at(status, "annotations"), annotations);
  });
  return { id, configFile, logDirectory };
}

interface Container {
  readonly id: string;
  readonly logFile: string;
}

async function runContainer(crictl: Crictl, pod: Pod, reference: string, image: BuiltImage): Promise<Container> {
  const configFile = join(pod.logDirectory, "..", "container.json");
  const config = {
    metadata: { name: "counter", attempt: 0 },
    image: { image: reference },
    command: ["sh", "-c", script],
    working_dir: "/tmp",
    envs: [{ key: "COLOUR", value: "blue" }],
    labels: { part: "counter" },
    log_path: "counter/0.log",
    linux: { resources: { memory_limit_in_bytes: 64 * 1024 * 1024 } },
  };
  await mkdir(join(pod.logDirectory, "counter"));
  await writeFile(configFile, JSON.stringify(config));

  const id = await step("create", async () => {
    const printed = await crictl.run("create", pod.id, configFile, pod.configFile);
    assert.match(printed, /^[0-9a-f]{64}$/);
    return printed;
  });
  await step("ps --all: created", async () => {
    const container = at(await crictl.json("ps", "--all", "--output", "json"), "containers", 0);
    assert.equal(at(container, "id"), id);
    assert.equal(at(container, "state"), "CONTAINER_CREATED");
    assert.equal(at(container, "podSandboxId"), pod.id);
    assert.equal(await crictl.run("ps", "--quiet"), "");
  });
  await step("start", () => crictl.run("start", id));
  await step("start of a running container fails", async () => {
    const { code, stderr } = await crictl.attempt("start", id);
    assert.notEqual(code, 0);
    assert.match(stderr, /FailedPrecondition/);
  });
  await step("ps: running", async () => assert.equal(await crictl.run("ps", "--quiet"), id));
  await step("inspect: state, image, log path, resources", async () => {
    const inspected = await crictl.json("inspect", id);
    const status = at(inspected, "status");
    assert.equal(at(status, "state"), "CONTAINER_RUNNING");
    assert.equal(at(status, "imageId"), image.id);
    assert.equal(at(status, "imageRef"), `${reference.replace(/:1$/, "")}@${image.digest}`);
    assert.equal(at(status, "image", "image"), reference);
    assert.equal(at(status, "logPath"), join(pod.logDirectory, "counter/0.log"));
    assert.deepEqual(at(status, "labels"), { part: "counter" });
    assert.equal(String(at(status, "resources", "linux", "memoryLimitInBytes")), String(64 * 1024 * 1024));
    assert(Date.parse(String(at(status, "startedAt"))) >= Date.parse(String(at(status, "createdAt"))));
  });
  return { id, logFile: join(pod.logDirectory, "counter/0.log") };
}

async function reachHostPort(): Promise<void> {
  await step("the host port reaches the pod", async () => {
    const answer = await until("the page", 10_000, () => get(`${prefix}.1`, hostPort));
    assert.match(answer, /page/);
  });
}

/** A server's answer to a plain GET; undefined if it is unreachable. */
function get(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2000 });
    let answer = "";
    socket.on("connect", () => socket.write("GET /index.html HTTP/1.0\r\n\r\n"));
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.on("timeout", () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(answer === "" ? undefined : answer));
  });
}

async function readLogs(crictl: Crictl, container: Container): Promise<void> {
  await step("logs: both streams", async () => {
    const lines = await until("ten counts", 10_000, async () => {
      const { stdout, stderr } = await crictl.attempt("logs", container.id);
      return numbersOf(stdout).length >= 10 ? { stdout, stderr } : undefined;
    });
    assertCounts(numbersOf(lines.stdout));
    assert.match(lines.stderr, /^hello from stderr$/m);
  });
  await step("logs --tail and --stream", async () => {
    assert.equal(numbersOf(await crictl.run("logs", "--tail", "3", container.id)).length, 3);
    const { stdout, stderr } = await crictl.attempt("logs", "--stream", "stderr", container.id);
    assert.equal(stdout + stderr, "hello from stderr\n");
  });
  await step("the log file is in CRI format", async () => {
    const [first] = (await readFile(container.logFile, "utf8")).split("\n");
    assert.match(first ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) F /);
  });
  await step("logs after rotation: no line is lost or duplicated", async () => {
    const rotated = `${container.logFile}.1`;
    await rename(container.logFile, rotated);
    await crictl.run("logs", "--reopen", container.id);
    const fresh = await until("ten counts in the new file", 10_000, async () => {
      const numbers = numbersOf(await readFile(container.logFile, "utf8"));
      return numbers.length >= 10 ? numbers : undefined;
    });
    const old = numbersOf(await readFile(rotated, "utf8"));
    assertCounts([...old, ...fresh]);
    assert.equal(numbersOf((await crictl.attempt("logs", container.id)).stdout)[0], fresh[0]);
    await rm(rotated);
  });
}

function numbersOf(text: string): number[] {
  return [...text.matchAll(/count (\d+)$/gm)].map((match) => Number(match[1]));
}

function assertCounts(numbers: readonly number[]): void {
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index),
  );
}

async function executeInside(crictl: Crictl, container: Container): Promise<void> {
  const inside = (...command: readonly string[]) => crictl.run("exec", "-s", container.id, ...command);
  await step("exec -s: in the container's namespaces, root and environment", async () => {
    assert.equal(await inside("hostname"), "walk-host");
    assert.equal(await inside("sh", "-c", "echo $COLOUR; pwd"), "blue\n/tmp");
    assert.match(await inside("ip", "addr", "show", "eth0"), new RegExp(`inet ${prefix}\\.`));
    assert.match(await inside("cat", "/etc/resolv.conf"), /^nameserver 10\.96\.0\.10$/m);
    assert.match(await inside("ps"), /sh -c/);
  });
  await step("exec -s: exit code and both streams", async () => {
    const { code, stderr } = await crictl.attempt("exec", "-s", container.id, "sh", "-c", "echo oops >&2; exit 42");
    assert.notEqual(code, 0);
    assert.match(stderr, /oops/);
    assert.match(stderr, /42/);
  });
  await step("exec -s of a missing program reports it", async () => {
    const { code, stderr } = await crictl.attempt("exec", "-s", container.id, "no-such-program");
    assert.notEqual(code, 0);
    assert.match(stderr, /no-such-program/);
  });
  await step("exec -s --timeout kills the program", async () => {
    const from = performance.now();
    const { code, stderr } = await crictl.attempt("exec", "-s", "--timeout", "1", container.id, "sleep", "1234");
    assert.notEqual(code, 0);
    assert.match(stderr, /DeadlineExceeded|timed out/);
    assert(performance.now() - from < 10_000);
    assert.doesNotMatch(await inside("ps"), /sleep 1234/);
  });
}

async function readStats(crictl: Crictl, pod: Pod, container: Container): Promise<void> {
  await step("stats", async () => {
    const stats = at(await crictl.json("stats", "--output", "json"), "stats", 0);
    assert.equal(at(stats, "attributes", "id"), container.id);
    assert(Number(at(stats, "cpu", "usageCoreNanoSeconds", "value")) > 0);
    assert(Number(at(stats, "memory", "workingSetBytes", "value")) > 0);
  });
  await step("stats: the container's writes show in its writable layer", async () => {
    const megabyte = 1024 * 1024;
    await crictl.run("exec", "-s", container.id, "dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=1");
    await until("a megabyte in use", 20_000, async () => {
      const stats = at(await crictl.json("stats", "--output", "json", container.id), "stats", 0);
      return Number(at(stats, "writableLayer", "usedBytes", "value")) >= megabyte ? true : undefined;
    });
  });
  await step("statsp", async () => {
    const stats = at(await crictl.json("statsp", "--output", "json"), "stats", 0);
    assert.equal(at(stats, "attributes", "id"), pod.id);
    const linux = at(stats, "linux");
    assert(Number(at(linux, "memory", "workingSetBytes", "value")) > 0);
    assert(Number(at(linux, "process", "processCount", "value")) > 0);
    assert.equal(at(linux, "network", "defaultInterface", "name"), "eth0");
    assert.equal(at(linux, "containers", 0, "attributes", "id"), container.id);
  });
}

async function endContainer(crictl: Crictl, container: Container): Promise<void> {
  await step("stop: the container handles SIGTERM and its exit code is kept", async () => {
    await crictl.run("stop", "--timeout", "10", container.id);
    const status = at(await crictl.json("inspect", container.id), "status");
    assert.equal(at(status, "state"), "CONTAINER_EXITED");
    assert.equal(at(status, "exitCode"), 7);
    assert.equal(at(status, "reason"), "Error");
    assert(Date.parse(String(at(status, "finishedAt"))) >= Date.parse(String(at(status, "startedAt"))));
    assert.match((await crictl.attempt("logs", container.id)).stdout, /got TERM\n$/);
  });
  await step("a second stop succeeds", () => crictl.run("stop", container.id));
  await step("exec -s in an exited container fails", async () => {
    const { code, stderr } = await crictl.attempt("exec", "-s", container.id, "true");
    assert.notEqual(code, 0);
    assert.match(stderr, /FailedPrecondition/);
  });
  await step("rm", async () => {
    await crictl.run("rm", container.id);
    assert.equal(await crictl.run("ps", "--all", "--quiet"), "");
  });
}

async function endPod(crictl: Crictl, pod: Pod): Promise<void> {
  await step("stopp: not ready, and its host port is closed", async () => {
    await crictl.run("stopp", pod.id);
    assert.equal(at(await crictl.json("inspectp", pod.id), "status", "state"), "SANDBOX_NOTREADY");
    assert.equal(await get(`${prefix}.1`, hostPort), undefined);
  });
  await step("a second stopp succeeds", () => crictl.run("stopp", pod.id));
  await step("rmp", async () => {
    await crictl.run("rmp", pod.id);
    assert.equal(await crictl.run("pods", "--quiet"), "");
    const { code, stderr } = await crictl.attempt("inspectp", pod.id);
    assert.notEqual(code, 0);
    assert.match(stderr, /NotFound/);
  });
}

async function removeImage(crictl: Crictl, reference: string): Promise<void> {
  await step("rmi", async () => {
    await crictl.run("rmi", reference);
    assert.equal(await crictl.run("images", "--quiet"), "");
  });
}
