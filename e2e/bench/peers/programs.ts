// The peers' programs in the tools cache, installed there by the ordinary clients: built Go modules and unpacked Debian
// packages. Unavailable programs are reported, and the benchmark continues without them.

import { execFile } from "node:child_process";
import { constants, copyFile, cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { builtOnce, go, isThere, moduleDirectory, type ToolAnswer } from "../../fixtures/go.ts";
import { containerdPrograms } from "../../fixtures/kubernetes/containerd.ts";
import { conmonProgram, ociHandlers } from "../../fixtures/oci-runtimes.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";

export const crioVersion = "v1.36.3";
const cniPluginsVersion = "v1.9.1";

/** Passed from main.ts to inside.ts; an unavailable program has no path. */
export interface Programs {
  /** The directory of the plugins that all servers use, and their name and version. */
  readonly cniPlugins: string;
  readonly cniPluginsName: string;
  /** The directory of the plugins in Keelson's build. */
  readonly ownPlugins: string | undefined;
  /** The directory of containerd, its shim and ctr. */
  readonly containerd: string | undefined;
  readonly runc: string | undefined;
  /** The directory of crio and pinns. */
  readonly crio: string | undefined;
  readonly crun: string | undefined;
  readonly conmon: string | undefined;
  /** One sentence for each unavailable program, with the reason. */
  readonly missing: readonly string[];
}

const execute = promisify(execFile);
const cniPluginNames = ["bridge", "host-local", "loopback", "portmap"];

/** Takes five to ten minutes the first time. `builtPackage` is Keelson's. */
export async function bringPrograms(builtPackage: string): Promise<Programs> {
  const missing: string[] = [];
  const cache = toolsDirectory(process.env);
  const attempt = async (what: string, bring: () => Promise<ToolAnswer>): Promise<string | undefined> => {
    const answer = await bring().catch((error): ToolAnswer => ({ kind: "unavailable", reason: firstLine(error) }));
    if (answer.kind === "found") return answer.path;
    missing.push(`Without ${what}: ${answer.reason}`);
    return undefined;
  };
  const cniPlugins = await attempt(`CNI plugins ${cniPluginsVersion}, with Debian's instead`, () =>
    bringCniPlugins(cache),
  );
  const containerd = await attempt("containerd", async () => {
    const answer = await containerdPrograms(cache);
    return answer.kind === "found" ? { kind: "found", path: answer.directory } : answer;
  });
  const crio = await attempt("CRI-O", () => bringCrio(cache));
  const conmon = await attempt("CRI-O", () => conmonProgram(cache));
  const { runc, crun } = await ociHandlers();
  if (runc === undefined) missing.push("Without containerd: no current runc");
  if (crun === undefined) missing.push("Without CRI-O and crun's floor: no current crun");
  return {
    cniPlugins: cniPlugins ?? "/usr/lib/cni",
    cniPluginsName: cniPlugins === undefined ? "Debian's CNI plugins" : `CNI plugins ${cniPluginsVersion}`,
    missing,
    ownPlugins: await ownPlugins(builtPackage),
    containerd,
    crio,
    conmon,
    runc,
    crun,
  };
}

/** Resolves with a directory of all plugins. */
async function bringCniPlugins(cache: string): Promise<ToolAnswer> {
  const directory = join(cache, "bin", `cni-plugins-${cniPluginsVersion}`);
  const module = "github.com/containernetworking/plugins";
  const kinds: Readonly<Record<string, string>> = { "host-local": "ipam", portmap: "meta" };
  for (const name of cniPluginNames) {
    const answer = await builtOnce(join(directory, name), async (output, scratch) => {
      const source = await moduleDirectory(scratch, `${module}@${cniPluginsVersion}`);
      const stamp = `-s -w -X ${module}/pkg/utils/buildversion.BuildVersion=${cniPluginsVersion}`;
      const words = ["build", "-p", "2", "-ldflags", stamp, "-o", output, `./plugins/${kinds[name] ?? "main"}/${name}`];
      await go(source, words, { CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false" });
    });
    if (answer.kind === "unavailable") return answer;
  }
  return { kind: "found", path: directory };
}

/** Resolves with a directory of crio and pinns. The tags exclude parts that need C libraries other than libseccomp. */
async function bringCrio(cache: string): Promise<ToolAnswer> {
  const directory = join(cache, "bin", `crio-${crioVersion}`);
  const module = `github.com/cri-o/cri-o@${crioVersion}`;
  const crio = await builtOnce(join(directory, "crio"), async (output, scratch) => {
    const source = await moduleDirectory(scratch, module);
    const tags =
      "containers_image_openpgp,containers_image_ostree_stub,exclude_graphdriver_btrfs,btrfs_noversion,seccomp";
    const words = ["build", "-p", "2", "-tags", tags, "-ldflags", "-s -w", "-o", output, "./cmd/crio"];
    await go(source, words, { CGO_ENABLED: "1", GOFLAGS: "-buildvcs=false" });
  });
  if (crio.kind === "unavailable") return crio;
  const pinns = await builtOnce(join(directory, "pinns"), async (output, scratch) => {
    // Its Makefile writes next to its sources, and the module cache is read-only.
    const copy = join(scratch, "pinns");
    await cp(join(await moduleDirectory(scratch, module), "pinns"), copy, { recursive: true });
    await execute("chmod", ["-R", "u+w", copy]);
    await mkdir(join(scratch, "bin"));
    await execute("make", ["-s", "-C", copy], { timeout: 120_000 });
    await copyFile(join(scratch, "bin/pinns"), output);
  });
  if (pinns.kind === "unavailable") return pinns;
  return { kind: "found", path: directory };
}

async function ownPlugins(builtPackage: string): Promise<string | undefined> {
  const directory = join(builtPackage, "native/build/cni");
  return (await isThere(join(directory, "bridge"), constants.X_OK)) ? directory : undefined;
}

function firstLine(error: unknown): string {
  return String(error).split("\n")[0] ?? "";
}
