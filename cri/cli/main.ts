// The command line: keelson serve, status, check, image, play, config, version. Each loads only the code it needs.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { KeelsonError, loadHost, messageOf } from "../../native/index.ts";
import { exhausted } from "../api/resource-exhausted.ts";
import { criErrors } from "../errors.ts";
import { jsonLog } from "../log.ts";
import { keepCompiledCode } from "./compiled-code.ts";
import { type Config, loadConfig, printConfig } from "./config.ts";
import { overview, pages } from "./help.ts";
import type { ImageCommand } from "./images.ts";
import { json, type Output } from "./print.ts";
import { serviceManager } from "./service-manager.ts";
import { sampleConfig, settings } from "./settings.ts";
import { handleSignals } from "./signals.ts";
import { WorkList } from "./work-list.ts";

const options = {
  help: { type: "boolean", short: "h" },
  config: { type: "string" },
  root: { type: "string" },
  state: { type: "string" },
  socket: { type: "string" },
  "cni-conf-dir": { type: "string" },
  "cni-bin-dir": { type: "string", multiple: true },
  registries: { type: "string" },
  "log-level": { type: "string" },
  output: { type: "string" },
  version: { type: "boolean" },
  default: { type: "boolean" },
  down: { type: "boolean" },
  logs: { type: "boolean" },
} as const;

type Flags = ReturnType<typeof parseCommandLine>["values"];

process.exitCode = await main(process.argv.slice(2));

/** Runs one command; resolves to the exit status. */
async function main(args: string[]): Promise<number> {
  try {
    const { values, positionals } = parseCommandLine(args);
    if (values.version) return printVersion(outputOf("version", values));
    const [command, ...rest] = positionals;
    if (values.help || command === undefined || command === "help") return help(command === "help" ? rest[0] : command);
    return await run(command, rest, values);
  } catch (error) {
    process.stderr.write(`keelson: ${messageOf(exhausted("keelson", error) ?? error)}\n`);
    // Every command: 2 for a wrong command line or configuration, 1 for any other failure.
    return error instanceof KeelsonError && error.code === "InvalidArgument" ? 2 : 1;
  }
}

async function run(command: string, rest: readonly string[], flags: Flags): Promise<number> {
  if (command !== "play" && (flags.down || flags.logs)) {
    throw usage(`keelson ${command} takes no ${flags.down ? "--down" : "--logs"}`, `keelson ${command} --help`);
  }
  if (command !== "config" && flags.default) {
    throw usage(`keelson ${command} takes no --default`, `keelson ${command} --help`);
  }
  switch (command) {
    case "serve":
      return await runDaemon(() => configFor(command, rest, flags));
    case "status":
      return await runStatus(rest, flags);
    case "check":
      return await runCheck(await configFor(command, rest, flags), outputOf(command, flags));
    case "config":
      process.stdout.write(flags.default ? sampleConfig() : printConfig(await configFor(command, rest, flags)));
      return 0;
    case "version":
      noOperands(command, rest);
      return printVersion(outputOf(command, flags));
    case "image":
      return await runImage(rest, flags);
    case "play":
      return await runManifests(rest, flags);
    default:
      throw usage(`There is no command ${command}`, "keelson --help");
  }
}

async function runDaemon(readConfig: () => Promise<Config>): Promise<number> {
  const config = await readConfig();
  const uid = process.getuid?.() ?? -1;
  if (uid !== 0) throw criErrors.notRoot({ command: "serve", uid });
  const log = jsonLog(
    config.logLevel,
    (line) => process.stderr.write(line),
    () => new Date(),
  );
  const host = loadHost();
  const work = new WorkList();
  const manager = await serviceManager(process.env, host, log);
  handleSignals({ host, config, readConfig, log, work, manager });
  // A log that cannot be written to (a full disk, a reader that ended) is no reason to end.
  process.stderr.on("error", () => undefined);
  keepCompiledCode(config.root, version(), log);
  const { serve } = await import("./serve.ts");
  await serve(config, version(), log, work, manager, stopSignal());
  // Whatever still runs ends here, and the locks with it: no other daemon gets them before.
  return host.exitNow(0);
}

async function runStatus(rest: readonly string[], flags: Flags): Promise<number> {
  const { socket } = await configFor("status", rest, flags);
  const { nodeStatus } = await import("./status.ts");
  process.stdout.write(await nodeStatus(socket, outputOf("status", flags), stopSignal()));
  return 0;
}

async function runCheck(config: Config, output: Output): Promise<number> {
  const { checkHost, printFindings } = await import("./check.ts");
  const findings = await checkHost(config);
  process.stdout.write(output === "json" ? json(findings) : `${printFindings(findings)}\n`);
  return findings.some(({ verdict }) => verdict === "fail") ? 1 : 0;
}

async function runImage(rest: readonly string[], flags: Flags): Promise<number> {
  const [verb = "", first, ...more] = rest;
  const isKnown = verb === "ls" || (["pull", "load", "rm"].includes(verb) && first !== undefined);
  if (!isKnown)
    throw usage("keelson image takes: ls, pull REFERENCE, load FILE, rm REFERENCE…", "keelson image --help");
  const operands = verb === "ls" ? rest.slice(1) : verb === "rm" ? [] : more;
  const { socket } = await configFor(`image ${verb}`, operands, flags);
  const command = { socket, output: outputOf("image", flags), signal: stopSignal() };
  process.stdout.write(await imageWork(verb, first ?? "", more, command));
  return 0;
}

async function imageWork(verb: string, first: string, more: readonly string[], command: ImageCommand): Promise<string> {
  const { listImages, loadImages, pullImage, removeImages } = await import("./images.ts");
  switch (verb) {
    case "pull":
      return await pullImage(first, command);
    case "load":
      return await loadImages(first, command);
    case "rm":
      return await removeImages([first, ...more], command);
    default:
      return await listImages(command);
  }
}

async function runManifests(files: readonly string[], flags: Flags): Promise<number> {
  if (files.length === 0) throw usage("keelson play takes at least one FILE", "keelson play --help");
  const { down = false, logs = false } = flags;
  if (down && logs) throw usage("keelson play takes one of --down and --logs", "keelson play --help");
  const { socket, root } = await configFor("play", [], flags);
  const uid = process.getuid?.() ?? -1;
  if (uid !== 0) throw criErrors.notRoot({ command: "play", uid });
  const { runPlay } = await import("./play.ts");
  return await runPlay({ files, socket, root, down, logs });
}

function help(command: string | undefined): number {
  const page = command === undefined ? overview : pages.get(command);
  if (page === undefined) throw usage(`There is no command ${command}`, "keelson --help");
  process.stdout.write(page);
  return 0;
}

function parseCommandLine(args: string[]) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    const [problem = ""] = messageOf(error).split(". ");
    throw usage(problem, "keelson --help");
  }
}

async function configFor(command: string, operands: readonly string[], flags: Flags): Promise<Config> {
  noOperands(command, operands);
  const given: readonly (readonly [string, unknown])[] = [
    [settings.root.key, flags.root],
    [settings.state.key, flags.state],
    [settings.socket.key, flags.socket],
    [settings.cniConfDir.key, flags["cni-conf-dir"]],
    [settings.cniBinDirs.key, flags["cni-bin-dir"]],
    [settings.registriesDir.key, flags.registries],
    [settings.logLevel.key, flags["log-level"]],
  ];
  return await loadConfig(flags.config, new Map(given.filter(([, value]) => value !== undefined)));
}

function outputOf(command: string, { output = "text" }: Flags): Output {
  if (output === "text" || output === "json") return output;
  throw usage(`--output is ${output}, and may be text or json`, `keelson ${command} --help`);
}

function printVersion(output: Output): number {
  const node = process.versions.node;
  process.stdout.write(
    output === "json" ? json({ keelson: version(), node }) : `keelson ${version()} (Node.js ${node})\n`,
  );
  return 0;
}

function noOperands(command: string, operands: readonly string[]): void {
  if (operands.length > 0)
    throw usage(`keelson ${command} takes no ${operands.join(" ")}`, `keelson ${command} --help`);
}

/** Aborts at the first SIGTERM or SIGINT; the next one has its usual effect. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  if (typeof manifest === "object" && manifest !== null && "version" in manifest) return String(manifest.version);
  return "0.0.0";
}

function usage(problem: string, page: string): KeelsonError {
  return criErrors.usage({ problem, help: page });
}
