// A container's seccomp profile and its compiled filter.
// Source: OCI config-linux.md ("Seccomp"); CRI v1 SecurityProfile.

import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Host, messageOf, readBounded, replaceFile } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity } from "../types.ts";
import { defaultSeccompProfile } from "./seccomp-default.ts";

const profileLimit = 4 << 20;
const defaultsKept = 32;

/** False for an unconfined container. */
export function hasSeccomp({ privileged, seccomp }: ContainerSecurity): boolean {
  return !privileged && seccomp !== undefined && seccomp.type !== "unconfined";
}

async function readProfile(path: string): Promise<object> {
  const unusable = (reason: string, cause?: unknown) => podErrors.seccompProfile({ path, reason }, cause);
  const text = await readBounded(path, profileLimit).catch((error: unknown) => {
    throw unusable(messageOf(error), error);
  });
  let profile: unknown;
  try {
    profile = JSON.parse(text);
  } catch (error) {
    throw unusable("it is not JSON", error);
  }
  if (typeof profile !== "object" || profile === null || !("defaultAction" in profile))
    throw unusable("it has no defaultAction");
  return profile;
}

/**
 * Profiles and their filters. Each distinct profile is compiled once per daemon, even if an older Keelson already
 * compiled it. Filters are named by the profile's hash and shared by all pods.
 */
export class SeccompFilters {
  readonly #directory: string;
  readonly #host: Host;
  readonly #compiled = new Map<string, Promise<string>>();
  /** Default profiles by set of capabilities. There are few, and each takes 0.2 ms to build. */
  readonly #defaults = new Map<string, object>();

  /** `directory` is volatile (below /run), because libseccomp or the kernel may change at a reboot. */
  constructor(directory: string, host: Host) {
    this.#directory = directory;
    this.#host = host;
  }

  /** The `linux.seccomp` object for config.json, or undefined for an unconfined container. */
  async profile(security: ContainerSecurity, capabilities: readonly string[]): Promise<object | undefined> {
    if (security.privileged || security.seccomp === undefined) return undefined;
    switch (security.seccomp.type) {
      case "unconfined":
        return undefined;
      case "runtime-default":
        return this.#default(capabilities);
      case "localhost":
        return await readProfile(security.seccomp.path);
    }
  }

  /** The path of the profile's compiled filter. */
  async path(profile: object): Promise<string> {
    const json = JSON.stringify(profile);
    const hash = createHash("sha256").update(json).digest("hex");
    const known = this.#compiled.get(hash);
    if (known !== undefined) return await known;
    const compiling = this.#compile(json, join(this.#directory, `${hash}.bpf`));
    this.#compiled.set(hash, compiling);
    compiling.catch(() => this.#compiled.delete(hash));
    return await compiling;
  }

  #default(capabilities: readonly string[]): object {
    const key = capabilities.join(" ");
    const profile = this.#defaults.get(key) ?? defaultSeccompProfile(new Set(capabilities));
    if (this.#defaults.size < defaultsKept) this.#defaults.set(key, profile);
    return profile;
  }

  async #compile(json: string, path: string): Promise<string> {
    const filter = await this.#host.compileSeccomp(json);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await replaceFile(path, filter, "nothing");
    return path;
  }
}
