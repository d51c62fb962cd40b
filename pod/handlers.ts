// Runtime handlers: the native one and the configured OCI runtime binaries, with the features of each.
// Sources: OCI features.md; CRI v1 RuntimeHandlerFeatures.

import { readFile, stat } from "node:fs/promises";
import { release } from "node:os";
import { firstLine, type KeelsonError, type Log, runProgram, TimeLimit } from "../native/index.ts";
import { podErrors } from "./errors.ts";
import { isKernelAtLeast } from "./kernel-release.ts";
import { judge } from "./runtime-floor.ts";

export interface HandlerFeatures {
  readonly recursiveReadOnlyMounts: boolean;
  readonly userNamespaces: boolean;
}

export interface RuntimeHandler {
  readonly name: string;
  /** Absent for the native handler. */
  readonly oci?: { readonly binary: string };
  /** According to the last check. */
  readonly features: HandlerFeatures;
  /** Whether the last check passed; otherwise the handler is not offered. */
  readonly usable: boolean;
  /** Rejects when the binary is missing or known to be unsafe. Call it before starting anything with the handler. */
  check(): Promise<void>;
}

const probeTimeoutMs = 5_000;
const outputLimit = 1 << 20;
const noFeatures: HandlerFeatures = { recursiveReadOnlyMounts: false, userNamespaces: false };

/** The native handler and the given binaries by handler name, each checked. Failed ones are included as unusable. */
export async function openHandlers(
  binaries: ReadonlyMap<string, string>,
  log: Log,
): Promise<ReadonlyMap<string, RuntimeHandler>> {
  const native: RuntimeHandler = {
    name: "native",
    features: { recursiveReadOnlyMounts: true, userNamespaces: await kernelHasUserNamespaces() },
    usable: true,
    check: async () => undefined,
  };
  const others = await Promise.all(
    [...binaries].map(async ([name, binary]) => {
      const handler = new OciRuntime(name, binary, log);
      // The reason has been logged, and pods that request the handler get it as their error.
      await handler.check().catch(() => undefined);
      return handler;
    }),
  );
  return new Map([native, ...others].map((handler) => [handler.name, handler]));
}

/** Stands in for the handler of a recorded pod that is no longer configured: nothing can be started in that pod. */
export function vanishedHandler(name: string, known: Iterable<string>): RuntimeHandler {
  const check = () => Promise.reject(podErrors.handlerUnknown({ handler: name, known: [...known].join(", ") }));
  return { name, features: noFeatures, usable: false, check };
}

/** Overlayfs supports idmapped lower layers given one by one ("lowerdir+") since Linux 6.7. */
async function kernelHasUserNamespaces(): Promise<boolean> {
  const limit = await readFile("/proc/sys/user/max_user_namespaces", "utf8").catch(() => "0");
  return Number(limit) > 0 && isKernelAtLeast(release(), "6.7");
}

type Outcome =
  | { readonly kind: "usable"; readonly features: HandlerFeatures }
  /** `final`: holds as long as the file does not change. */
  | { readonly kind: "refused"; readonly error: KeelsonError; readonly final: boolean };

class OciRuntime implements RuntimeHandler {
  readonly name: string;
  readonly oci: { readonly binary: string };
  readonly #log: Log;
  #probe: { readonly file: string; readonly outcome: Promise<Outcome> } | undefined;
  #latest: Outcome | undefined;

  constructor(name: string, binary: string, log: Log) {
    this.name = name;
    this.oci = { binary };
    this.#log = log;
  }

  get features(): HandlerFeatures {
    return this.#latest?.kind === "usable" ? this.#latest.features : noFeatures;
  }

  get usable(): boolean {
    return this.#latest?.kind === "usable";
  }

  async check(): Promise<void> {
    const before = this.#latest;
    this.#latest = await this.#outcome();
    if (this.#latest.kind === "usable") return;
    const { error } = this.#latest;
    const isNews = before?.kind !== "refused" || before.error.message !== error.message;
    if (isNews) this.#log("error", `the runtime handler ${this.name} is not offered`, { reason: error.message });
    throw error;
  }

  /** Probes again after the file was modified or replaced, because its version may have changed. */
  async #outcome(): Promise<Outcome> {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(this.oci.binary, { bigint: true });
      const file = [dev, ino, size, mtimeNs, ctimeNs].join(" ");
      if (this.#probe?.file !== file) this.#probe = { file, outcome: this.#inspect() };
    } catch (error) {
      this.#probe = undefined;
      return this.#refused(firstLine(error), false);
    }
    const probe = this.#probe;
    const outcome = await probe.outcome;
    if (outcome.kind === "refused" && !outcome.final && this.#probe === probe) this.#probe = undefined;
    return outcome;
  }

  async #inspect(): Promise<Outcome> {
    let printed: string;
    try {
      printed = await this.#run("--version");
    } catch (error) {
      return this.#refused(firstLine(error), false);
    }
    const verdict = judge(printed);
    if (verdict.kind === "passes") return { kind: "usable", features: await this.#features() };
    if (verdict.kind === "silent") return this.#refused("it prints no version", true);
    const { found, wanted } = verdict;
    const advisories = verdict.advisories.join(", ");
    const blanks = { handler: this.name, binary: this.oci.binary, found, advisories, wanted };
    return { kind: "refused", error: podErrors.handlerUnsafe(blanks), final: true };
  }

  #refused(reason: string, final: boolean): Outcome {
    const error = podErrors.handlerBinary({ handler: this.name, binary: this.oci.binary, reason });
    return { kind: "refused", error, final };
  }

  /**
   * Asks the binary's "features" command; a binary without that command is assumed to have no features. User namespaces
   * need the pod's layers idmapped on the host, which the monitor does only for the native handler.
   */
  async #features(): Promise<HandlerFeatures> {
    try {
      const answer: { readonly mountOptions?: unknown } = JSON.parse(await this.#run("features"));
      const options = Array.isArray(answer.mountOptions) ? answer.mountOptions : [];
      return { recursiveReadOnlyMounts: options.includes("rro"), userNamespaces: false };
    } catch (error) {
      this.#log("info", `runtime handler ${this.name}: ${this.oci.binary} reports no features, so none are used`, {
        reason: firstLine(error),
      });
      return noFeatures;
    }
  }

  async #run(command: string): Promise<string> {
    const { binary } = this.oci;
    using limit = new TimeLimit(probeTimeoutMs, () => new Error(`${binary} ${command} timed out`));
    const end = await runProgram(binary, [command], limit.signal, { stdout: { limit: outputLimit } });
    if (end.code !== 0) throw new Error(`Command failed: ${binary} ${command} exited with ${end.code ?? end.signal}`);
    return end.stdout;
  }
}
