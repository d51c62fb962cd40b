// Runs one CNI plugin once: finds its file, writes its input, enforces limits, reads its output.
//
// CNI spec 1.1.0, sections 2 and 5: parameters in the environment, configuration on stdin, a result
// or an error object on stdout. The plugin is not trusted to terminate, or to limit or format its output correctly.

import { type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  asInteger,
  asString,
  endOf,
  isErrno,
  type JsonObject,
  member,
  messageOf,
  type Program,
  type ProgramEnd,
  parseObject,
  runProgram,
  startProgram,
  TimeLimit,
  trackWork,
} from "../native/index.ts";
import { cniErrors } from "./errors.ts";

/** The commands in use. CHECK is not: `Network.inspect` detects missing parts of a pod's network without it. */
export type CniCommand = "ADD" | "DEL" | "STATUS" | "GC";

/** What a plugin process gets when it is started. */
export interface PluginStart {
  readonly command: CniCommand;
  /** The plugin's type, which is its file name. */
  readonly plugin: string;
  /** Path of the plugin's executable. */
  readonly path: string;
  /** CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH, as far as the command uses them. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface PluginCall extends PluginStart {
  readonly config: JsonObject;
  /** Its process, if `startPlugin` has already started it. */
  readonly program: Program | undefined;
  /** Milliseconds after which the plugin is killed. */
  readonly timeoutMs: number;
  /** Kills the plugin; the reason of the signal is what the call rejects with. */
  readonly signal: AbortSignal;
}

/** A failure that a plugin reported itself (spec section 5, "Error"); the cause of `pluginFailed`. */
export class PluginFailure extends Error {
  override readonly name = "PluginFailure";
  readonly pluginCode: number;
  readonly details: string;

  constructor(pluginCode: number, message: string, details: string) {
    super(message);
    this.pluginCode = pluginCode;
    this.details = details;
  }
}

const maxOutputBytes = 1024 * 1024;
/** As in libcni: while an installer overwrites a plugin's file, executing it fails with ETXTBSY. */
const busyTries = 6;
const betweenTriesMs = 1000;
/** Plugins run iptables, ip and sysctl by name; they see nothing else of the daemon's environment. */
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The plugin's file: the first executable regular file of that name in the directories, or undefined. Synchronous: stat
 * takes microseconds, a thread pool task a hundred, and starting and stopping a pod takes a dozen lookups. A file
 * system that hangs would block the plugin's execve, which is also waited for here, in the same way.
 */
export function findPlugin(type: string, directories: readonly string[]): string | undefined {
  return directories.map((directory) => join(directory, type)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  const found = statPlugin(path);
  return found?.isFile() === true && (found.mode & 0o111) !== 0;
}

/** Undefined if the path does not exist or cannot be examined. */
export function statPlugin(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/**
 * Runs the plugin and returns what it wrote to stdout. Rejects with a `plugin…` error of the catalogue or with the
 * signal's reason; by then the plugin and its children have been killed.
 */
export async function runPlugin(call: PluginCall): Promise<string> {
  const { command, plugin, parameters } = call;
  const describe = () => `${plugin} ${command} ${parameters.CNI_CONTAINERID ?? ""}`;
  return await trackWork("plugin", describe, () => outputOf(call), `${plugin} ${command}`);
}

async function outputOf(call: PluginCall): Promise<string> {
  const { command, plugin, timeoutMs } = call;
  const late = () => cniErrors.pluginTimedOut({ plugin, command, seconds: timeoutMs / 1000 });
  using limit = new TimeLimit(timeoutMs, late, call.signal);
  const end = await run(call, limit.signal);
  if (end.tooLong) throw cniErrors.pluginTooLoud({ plugin, command, limit: maxOutputBytes });
  if (end.code === 0) return end.stdout;
  throw failureOf(call, end);
}

/** Starts the process, which waits for its configuration. The caller must kill it or pass it to `runPlugin`. */
export function startPlugin(start: PluginStart): Program {
  return startProgram(start.path, [], { ...surroundings(start), stdin: "pipe" });
}

async function run(call: PluginCall, signal: AbortSignal): Promise<ProgramEnd> {
  const { path, command } = call;
  try {
    for (let tries = 1; ; tries += 1) {
      try {
        return await runOnce(tries === 1 ? call : { ...call, program: undefined }, signal);
      } catch (error) {
        if (tries === busyTries || !isErrno(error, "ETXTBSY")) throw error;
        await delay(betweenTriesMs, undefined, { signal });
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw cniErrors.pluginNotStarted({ path, command, reason: messageOf(error) }, error);
  }
}

async function runOnce(call: PluginCall, signal: AbortSignal): Promise<ProgramEnd> {
  const { path, program, config } = call;
  const input = JSON.stringify(config);
  if (program === undefined) return await runProgram(path, [], signal, { ...surroundings(call), input });
  const [end] = await Promise.all([endOf(program, signal), feed(program, input)]);
  return end;
}

function surroundings({ command, parameters }: PluginStart) {
  const env = { ...parameters, CNI_COMMAND: command, PATH: searchPath };
  return { cwd: "/", env, stdout: { limit: maxOutputBytes } };
}

async function feed({ stdin }: Program, input: string): Promise<void> {
  // A process that has exited accepts no input; its exit status tells why.
  (await stdin)?.on("error", () => undefined).end(input);
}

function failureOf(call: PluginCall, { code, signal, stdout, stderr }: ProgramEnd) {
  const { command, plugin } = call;
  const answer = parseObject(stdout);
  const pluginCode = answer && asInteger(member(answer, "code"));
  if (answer === undefined || pluginCode === undefined) {
    const how = code === null ? `was killed by ${signal ?? "a signal"}` : `exited with code ${code}`;
    const said = [stdout, stderr].map((text) => text.trim()).filter((text) => text !== "");
    return cniErrors.pluginDied({
      plugin,
      command,
      how,
      output: said.length === 0 ? "nothing" : JSON.stringify(brief(said.join("\n"))),
    });
  }
  const message = asString(member(answer, "msg")) ?? "";
  const details = asString(member(answer, "details")) ?? "";
  const reason = brief([message, details].filter((text) => text !== "").join("; ") || "no message");
  const cause = new PluginFailure(pluginCode, message, details);
  // Spec section 5, code 11: a temporary condition.
  if (pluginCode === 11) return cniErrors.pluginBusy({ plugin, command, reason }, cause);
  return cniErrors.pluginFailed({ plugin, command, pluginCode, reason }, cause);
}

function brief(text: string): string {
  return text.length <= 2000 ? text : `${text.slice(0, 2000)}…`;
}
