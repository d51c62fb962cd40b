// Runs one CNI plugin once: finds its file, feeds it, bounds it, reads its answer.
//
// CNI spec 1.1.0, sections 2 and 5: parameters in the environment, configuration on stdin, a result
// or an error object on stdout. The plugin is not trusted to end, to be brief or to be sane.

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

/** Those in use. What of a pod's network is gone `Network.inspect` tells, without CHECK. */
export type CniCommand = "ADD" | "DEL" | "STATUS" | "GC";

/** What its process is told at its start. */
export interface PluginStart {
  readonly command: CniCommand;
  /** The plugin's type: its file's name. */
  readonly plugin: string;
  /** The plugin's file. */
  readonly path: string;
  /** CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH as far as the command has them. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface PluginCall extends PluginStart {
  readonly config: JsonObject;
  /** Its process, where `startPlugin` has started it already. */
  readonly program: Program | undefined;
  /** Milliseconds after which the plugin is killed. */
  readonly timeoutMs: number;
  /** Kills the plugin; the reason of the signal is what the call rejects with. */
  readonly signal: AbortSignal;
}

/** What a plugin said of its own failure (spec section 5, "Error"); the cause of `pluginFailed`. */
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
/** As libcni: an installer that copies a plugin over the one of before has it open for a moment, and it cannot be run. */
const busyTries = 6;
const betweenTriesMs = 1000;
/** Plugins run iptables, ip and sysctl by name; nothing else of our environment is theirs to see. */
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The plugin's file: the first executable regular file of that name in the directories, or undefined. Looked for at once:
 * it takes microseconds, of which a task of the thread pool takes a hundred, and a pod's start and end look a dozen times. A
 * file system that hangs would hold up the plugin's execve, which is waited for here, in the same way.
 */
export function findPlugin(type: string, directories: readonly string[]): string | undefined {
  return directories.map((directory) => join(directory, type)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  const found = statPlugin(path);
  return found?.isFile() === true && (found.mode & 0o111) !== 0;
}

/** Undefined for what is not there or cannot be looked at. */
export function statPlugin(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/**
 * Runs the plugin and returns what it wrote to stdout. Rejects with an error of the catalogue
 * (`plugin…`) or with the signal's reason; by then the plugin and its children have been killed.
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

/** Starts its process, which waits for its configuration. The caller's to kill, unless `runPlugin` takes it. */
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
  // One that has ended takes nothing any more; how it ended tells why.
  (await stdin)?.on("error", () => undefined).end(input);
}

function failureOf(call: PluginCall, { code, signal, stdout, stderr }: ProgramEnd) {
  const { command, plugin } = call;
  const answer = parseObject(stdout);
  const pluginCode = answer && asInteger(member(answer, "code"));
  if (answer === undefined || pluginCode === undefined) {
    const how = code === null ? `by ${signal ?? "a signal"}` : `with exit code ${code}`;
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
  // Spec section 5, code 11: a passing condition.
  if (pluginCode === 11) return cniErrors.pluginBusy({ plugin, command, reason }, cause);
  return cniErrors.pluginFailed({ plugin, command, pluginCode, reason }, cause);
}

function brief(text: string): string {
  return text.length <= 2000 ? text : `${text.slice(0, 2000)}…`;
}
