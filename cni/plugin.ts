// Runs one CNI plugin once: finds its file, feeds it, bounds it, reads its answer.
//
// CNI spec 1.1.0, sections 2 and 5: parameters in the environment, configuration on stdin, a result
// or an error object on stdout. The plugin is not trusted to end, to be brief or to be sane.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { messageOf, whileInHand } from "../native/index.ts";
import { cniErrors } from "./errors.ts";
import { asInteger, asString, type JsonObject, member, parseObject } from "./json.ts";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC";

export interface PluginCall {
  readonly command: CniCommand;
  /** The plugin's type: its file's name. */
  readonly plugin: string;
  /** The plugin's file. */
  readonly path: string;
  /** CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH as far as the command has them. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly config: JsonObject;
  /** Milliseconds after which the plugin is killed. */
  readonly timeoutMs: number;
  /** Kills the plugin; the reason of the signal is what the call rejects with. */
  readonly signal?: AbortSignal;
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
/** How long a killed plugin may take to go, and an ended one's children may keep its pipes. */
const lingerMs = 2000;
/** Plugins run iptables, ip and sysctl by name; nothing else of our environment is theirs to see. */
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The plugin's file: the first executable regular file of that name in the directories, or undefined. */
export async function findPlugin(type: string, directories: readonly string[]): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, type);
    try {
      await access(path, constants.X_OK);
      if ((await stat(path)).isFile()) return path;
    } catch {
      // Not in this one.
    }
  }
  return undefined;
}

/**
 * Runs the plugin and returns what it wrote to stdout. Rejects with an error of the catalogue
 * (`plugin…`) or with the signal's reason; by then the plugin and its children have been killed.
 */
export async function runPlugin(call: PluginCall): Promise<string> {
  call.signal?.throwIfAborted();
  const child = await start(call);
  const output = collect(child.stdout, () => kill(child));
  const complaints = collect(child.stderr, () => {});
  feed(child.stdin, JSON.stringify(call.config));
  const { command, plugin, parameters } = call;
  const end = await whileInHand(
    "plugin",
    () => `${plugin} ${command} ${parameters.CNI_CONTAINERID ?? ""}`,
    () => supervise(child, call),
  );
  return judge(call, end, output, complaints);
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

async function start({ path, command, parameters }: PluginCall): Promise<Child> {
  try {
    const child = spawn(path, [], {
      cwd: "/",
      env: { ...parameters, CNI_COMMAND: command, PATH: searchPath },
      stdio: ["pipe", "pipe", "pipe"],
      // A process group of its own, so that killing it takes the IPAM plugin it started too.
      detached: true,
    });
    // Node throws for some causes and emits for others; without a pid one of them is on its way.
    if (child.pid === undefined) throw (await once(child, "error"))[0];
    child.on("error", () => {});
    return child;
  } catch (error) {
    throw cniErrors.pluginNotStarted({ path, command, reason: messageOf(error) }, error);
  }
}

type End =
  | { readonly kind: "exit"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: string }
  | { readonly kind: "timeout" }
  | { readonly kind: "aborted"; readonly reason: unknown };

/** Waits for the end: of the process and its pipes, by deadline, or by the caller. Bounded in each case. */
function supervise(child: Child, call: PluginCall): Promise<End> {
  const { promise, resolve } = Promise.withResolvers<End>();
  let verdict: End | undefined;
  let linger: NodeJS.Timeout | undefined;

  const finish = (end: End): void => {
    clearTimeout(deadline);
    clearTimeout(linger);
    call.signal?.removeEventListener("abort", onAbort);
    child.stdin.destroy();
    child.stdout.destroy();
    child.stderr.destroy();
    resolve(verdict ?? end);
  };
  const lingerThenFinish = (end: End): void => {
    linger ??= setTimeout(() => finish(end), lingerMs);
  };
  const stop = (end: End): void => {
    verdict ??= end;
    kill(child);
    lingerThenFinish(end);
  };
  const onAbort = (): void => stop({ kind: "aborted", reason: call.signal?.reason });
  const deadline = setTimeout(() => stop({ kind: "timeout" }), call.timeoutMs);

  child.on("exit", (code, signal) => lingerThenFinish(endOf(code, signal)));
  child.on("close", (code, signal) => finish(endOf(code, signal)));
  call.signal?.addEventListener("abort", onAbort, { once: true });
  return promise;
}

function judge(call: PluginCall, end: End, output: Collected, complaints: Collected): string {
  const { command, plugin } = call;
  if (end.kind === "aborted") throw end.reason;
  if (end.kind === "timeout") throw cniErrors.pluginTimedOut({ plugin, command, seconds: call.timeoutMs / 1000 });
  if (output.overflown) throw cniErrors.pluginTooLoud({ plugin, command, limit: maxOutputBytes });
  if (end.kind === "exit" && end.code === 0) return output.text();
  throw failureOf(call, end, output.text(), complaints.text());
}

function failureOf(call: PluginCall, end: Extract<End, { kind: "exit" | "signal" }>, output: string, stderr: string) {
  const { command, plugin } = call;
  const answer = parseObject(output);
  const pluginCode = answer && asInteger(member(answer, "code"));
  if (answer === undefined || pluginCode === undefined) {
    const how = end.kind === "exit" ? `with exit code ${end.code}` : `by ${end.signal}`;
    const said = [output, stderr].map((text) => text.trim()).filter((text) => text !== "");
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

interface Collected {
  readonly overflown: boolean;
  text(): string;
}

/** Keeps the first MiB; what follows is read, so that the writer is not stalled, and dropped. */
function collect(stream: Readable, onOverflow: () => void): Collected {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let overflown = false;
  stream.on("data", (chunk: Buffer) => {
    if (bytes + chunk.length <= maxOutputBytes) chunks.push(chunk);
    else if (!overflown) {
      overflown = true;
      onOverflow();
    }
    bytes += chunk.length;
  });
  stream.on("error", () => {});
  return {
    get overflown() {
      return overflown;
    },
    text: () => Buffer.concat(chunks).toString("utf8"),
  };
}

function feed(stdin: Writable, text: string): void {
  // A plugin may end without reading: its exit says more than EPIPE.
  stdin.on("error", () => {});
  stdin.end(text);
}

/** SIGKILL to the plugin's process group, as long as its leader has not been reaped (no reused id is hit). */
function kill(child: Child): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Gone between the look and the kill.
  }
}

function endOf(code: number | null, signal: NodeJS.Signals | null): End {
  return code === null ? { kind: "signal", signal: signal ?? "a signal" } : { kind: "exit", code };
}

function brief(text: string): string {
  return text.length <= 2000 ? text : `${text.slice(0, 2000)}…`;
}
