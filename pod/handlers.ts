// Runtime handlers: the native one and the OCI runtime binaries of the configuration, with what each can do.
// Sources: OCI features.md; CRI v1 RuntimeHandlerFeatures.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { promisify } from "node:util";
import type { Log } from "./environment.ts";

export interface HandlerFeatures {
  readonly recursiveReadOnlyMounts: boolean;
  readonly userNamespaces: boolean;
}

export interface RuntimeHandler {
  readonly name: string;
  /** Absent for the native one. */
  readonly oci?: { readonly binary: string };
  readonly features: HandlerFeatures;
}

const featuresTimeoutMs = 5_000;
const featuresLimit = 1 << 20;
export const noFeatures: HandlerFeatures = { recursiveReadOnlyMounts: false, userNamespaces: false };

/** "native" and the binaries by handler name. */
export async function openHandlers(
  binaries: ReadonlyMap<string, string>,
  log: Log,
): Promise<ReadonlyMap<string, RuntimeHandler>> {
  const native: RuntimeHandler = {
    name: "native",
    features: { recursiveReadOnlyMounts: true, userNamespaces: await kernelHasUserNamespaces() },
  };
  const others = await Promise.all(
    [...binaries].map(async ([name, binary]): Promise<RuntimeHandler> => {
      return { name, oci: { binary }, features: await featuresOf(name, binary, log) };
    }),
  );
  return new Map([native, ...others].map((handler) => [handler.name, handler]));
}

/** Overlay takes layers whose owners are mapped one by one since Linux 6.5 ("lowerdir+"). */
async function kernelHasUserNamespaces(): Promise<boolean> {
  const [major = 0, minor = 0] = release().split(/[.-]/).map(Number);
  const limit = await readFile("/proc/sys/user/max_user_namespaces", "utf8").catch(() => "0");
  return Number(limit) > 0 && (major > 6 || (major === 6 && minor >= 5));
}

/**
 * By the binary's own "features" command. One that has no such command (crun before 1.8.6) promises nothing. User
 * namespaces need the pod's layers mapped on the host, which the monitor does for the native handler alone.
 */
async function featuresOf(name: string, binary: string, log: Log): Promise<HandlerFeatures> {
  try {
    const { stdout } = await promisify(execFile)(binary, ["features"], {
      timeout: featuresTimeoutMs,
      maxBuffer: featuresLimit,
    });
    const answer: { readonly mountOptions?: unknown } = JSON.parse(stdout);
    const options = Array.isArray(answer.mountOptions) ? answer.mountOptions : [];
    return { recursiveReadOnlyMounts: options.includes("rro"), userNamespaces: false };
  } catch (error) {
    log("info", `runtime handler ${name}: ${binary} tells no features, so it is not asked for any`, {
      reason: error instanceof Error ? error.message.split("\n", 1)[0] : String(error),
    });
    return noFeatures;
  }
}
