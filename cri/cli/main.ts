// The command line: keelson serve, status, check, image, play, config, version. Each loads only the code it needs.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { firstLine, KeelsonError, loadHost, messageOf } from "../../native/index.ts";
import { exhausted } from "../api/resource-exhausted.ts";
import { criErrors } from "../errors.ts";
import { jsonLog } from "../log.ts";
import { plain } from "../plain-text.ts";
import { commands, imageVerbs, options } from "./commands.ts";
import { keepCompiledCode } from "./compiled-code.ts";
import { type Config, loadConfig, printConfig } from "./config.ts";
import { overview, pages } from "./help.ts";
import { json, type Output } from "./print.ts";
import { serviceManager } from "./service-manager.ts";
import { sampleConfig, settings } from "./settings.ts";
import { handleSignals } from "./signals.ts";
import { WorkList } from "./work-list.ts";

type Flags = ReturnType<typeof parseCommandLine>["values"];

process.exitCode = await main(process.argv.slice(2));

/** Runs one command; resolves to the exit status. */
async function main(args: string[]): Promise<number> {
  try {
    const { values, positionals } = parseCommandLine(args);
    const [command, ...rest] = positionals;
    // If the reader of its output exits, a play first takes down its pods.
    if (command !== "play") exitOnOutputError();
    if (values.version) return printVersion(outputOf("version", values));
    if (values.help || command === undefined || command === "help") return help(command === "help" ? rest[0] : command);
    return await run(command, rest, values);
  } catch (error) {
    const isInterrupted = error instanceof Error && error.name === "AbortError";
    const reported = isInterrupted ? criErrors.interrupted({}) : (exhausted("keelson", error) ?? error);
    process.stderr.write(`keelson: ${plain(messageOf(reported))}\n`);
    // Does not wait until its output has been read.
    if (isInterrupted) process.exit(1);
    // Every command: 2 for an invalid command line or configuration, 1 for any other failure.
    return error instanceof KeelsonError && error.code === "InvalidArgument" ? 2 : 1;
  }
}

/** Exits when standard output fails: its reader may have exited, or it may be a file on a full disk. */
function exitOnOutputError(): void {
  process.stdout.on("error", ({ code, message }: NodeJS.ErrnoException) => {
    if (code !== "EPIPE")
      process.stderr.write(
        `keelson: ${criErrors.fileUnwritten({ file: "standard output", reason: message }).message}\n`,
      );
    process.exit(1);
  });
}

async function run(command: string, rest: readonly string[], flags: Flags): Promise<number> {
  rejectForeignOptions(command, flags);
  switch (command) {
    case "serve":
      return await runDaemon(() => configFor(command, rest, flags));
    case "status":
      return await runStatus(rest, flags);
    case "check":
      return await (flags.leaks ? runLeaks : runCheck)(await configFor(command, rest, flags), outputOf(command, flags));
    case "config":
      rejectOperands(command, rest);
      process.stdout.write(flags.default ? sampleConfig() : printConfig(await configFor(command, rest, flags)));
      return 0;
    case "version":
      rejectOperands(command, rest);
      return printVersion(outputOf(command, flags));
    case "image":
      return await runImage(rest, flags);
    case "play":
      return await runManifests(rest, flags);
    default:
      throw usage(`Unknown command '${command}'`, "keelson --help");
  }
}

async function runDaemon(readConfig: () => Promise<Config>): Promise<number> {
  const config = await readConfig();
  requireRoot("serve");
  // The same as in keelson.service: with a shell's umask of 0 its files would be world-writable.
  process.umask(0o022);
  const log = jsonLog(config.logLevel, process.stderr, () => new Date());
  const host = loadHost();
  const work = new WorkList();
  const manager = await serviceManager(process.env, host, log);
  handleSignals({ host, config, readConfig, log, work, manager });
  // The daemon keeps running when its log cannot be written (a full disk, a reader that exited).
  process.stderr.on("error", () => undefined);
  keepCompiledCode(config.root, version(), log);
  const { serve } = await import("./serve.ts");
  await serve(config, version(), log, work, manager, stopSignal());
  // Ends any work still running, and releases the locks: no other daemon can take them earlier.
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
  process.stdout.write(output === "json" ? json(findings) : `${plain(printFindings(findings))}\n`);
  return findings.some(({ verdict }) => verdict === "fail") ? 1 : 0;
}

async function runLeaks(config: Config, output: Output): Promise<number> {
  requireRoot("check --leaks");
  const { leakReport } = await import("./leaks.ts");
  const { text, count } = await leakReport(config, output);
  process.stdout.write(text);
  return count === 0 ? 0 : 1;
}

async function runImage([verb = "", ...operands]: readonly string[], flags: Flags): Promise<number> {
  const known = imageVerbs.find(({ name }) => name === verb);
  if (known === undefined || operands.length < known.words.length) {
    const takes = imageVerbs.map(({ name, operands: words }) => `${name} ${words}`.trim()).join(", ");
    throw usage(`keelson image needs one of: ${takes}`, "keelson image --help");
  }
  const { socket } = await configFor(`image ${verb}`, operands.slice(known.most), flags);
  const { imageWork } = await import("./images.ts");
  // SIGHUP: closing the terminal would otherwise leave a partial archive.
  const command = { socket, output: outputOf("image", flags), signal: stopSignal("SIGHUP") };
  process.stdout.write(await imageWork[known.name](operands, command));
  return 0;
}

async function runManifests(files: readonly string[], flags: Flags): Promise<number> {
  if (files.length === 0) throw usage("keelson play needs at least one FILE", "keelson play --help");
  const { down = false, logs = false } = flags;
  if (down && logs) throw usage("keelson play cannot combine --down with --logs", "keelson play --help");
  const { socket, root } = await configFor("play", [], flags);
  requireRoot("play");
  const { runPlay } = await import("./play.ts");
  return await runPlay({ files, socket, root, down, logs });
}

function help(command: string | undefined): number {
  const page = command === undefined ? overview : pages.get(command);
  if (page === undefined) throw usage(`Unknown command '${command}'`, "keelson --help");
  process.stdout.write(page);
  return 0;
}

function parseCommandLine(args: string[]) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    // Drops Node's advice, in further lines or sentences, which does not apply to this program.
    const [problem = ""] = firstLine(error).split(/\.(?: |$)/);
    throw usage(problem, "keelson --help");
  }
}

async function configFor(command: string, operands: readonly string[], flags: Flags): Promise<Config> {
  rejectOperands(command, operands);
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
  throw usage(`--output is ${output}; it must be text or json`, `keelson ${command} --help`);
}

function printVersion(output: Output): number {
  const node = process.versions.node;
  process.stdout.write(
    output === "json" ? json({ keelson: version(), node }) : `keelson ${version()} (Node.js ${node})\n`,
  );
  return 0;
}

function requireRoot(command: string): void {
  const uid = process.getuid?.() ?? -1;
  if (uid !== 0) throw criErrors.notRoot({ command, uid });
}

/** Rejects options of other commands, which would have no effect. */
function rejectForeignOptions(command: string, flags: Flags): void {
  const own: readonly string[] | undefined = commands.find(({ name }) => name === command)?.options;
  const foreign = Object.keys(flags).find((name) => own?.includes(name) === false);
  if (foreign !== undefined)
    throw usage(`Unknown option '--${foreign}' for keelson ${command}`, `keelson ${command} --help`);
}

function rejectOperands(command: string, operands: readonly string[]): void {
  if (operands.length > 0)
    throw usage(`Unexpected argument '${operands.join(" ")}' for keelson ${command}`, `keelson ${command} --help`);
}

/** Aborts on the first SIGTERM or SIGINT, or one of `more`; the next one has its default effect. */
function stopSignal(...more: readonly NodeJS.Signals[]): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT", ...more] as const) process.once(name, () => controller.abort());
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
