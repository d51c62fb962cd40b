// The default seccomp profile compared with Moby's: they may differ only where pod/spec/seccomp-differences.json says
// so, with the reason.
//
// Moby's is the reference because Docker ships it, containerd's contrib/seccomp is a copy that follows it, and its
// module has the profile as data with all its conditions, while containerd's is code that resolves it for the machine
// it runs on. The profile of containers/common (Podman, CRI-O) is not available from the Go module proxy.

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { capabilityNames } from "../../pod/spec/capabilities.ts";
import { defaultSeccompProfile } from "../../pod/spec/seccomp-default.ts";
import wanted from "../../pod/spec/seccomp-differences.json" with { type: "json" };
import { type MobyProfile, resolveMoby } from "../fixtures/moby-seccomp.ts";
import { differences } from "../fixtures/seccomp-decisions.ts";
import { mobySeccomp, mobySeccompProfile, toolsDirectory } from "../fixtures/tools.ts";

/** The oldest kernel that Keelson supports, and one newer than any that the rules mention. */
const kernels = ["5.12", "99.0"];

interface WantedDifference {
  readonly systemCalls: readonly string[];
  readonly argument?: string;
  readonly ours: string;
  readonly theirs: string;
  /** Only on this architecture; only with this capability; only without this one. */
  readonly architecture?: string;
  readonly with?: string;
  readonly without?: string;
  readonly reason: string;
}

test("the default profile differs from Moby's only as documented", async ({ skip }) => {
  const tool = await mobySeccompProfile(toolsDirectory(process.env));
  if (tool.kind === "unavailable") {
    process.stdout.write(`skipped: the comparison with Moby's seccomp profile: ${tool.reason}\n`);
    skip(tool.reason);
    return;
  }
  const moby: MobyProfile = JSON.parse(await readFile(tool.path, "utf8"));
  process.stdout.write(`${mobySeccomp.module} ${mobySeccomp.version}:\n`);
  for (const { reason, ...difference } of wanted) process.stdout.write(`${JSON.stringify(difference)}: ${reason}\n`);

  const surprises = new Map<string, string[]>();
  for (const { capabilities, ...machine } of situations()) {
    const ours = defaultSeccompProfile(new Set(capabilities), machine);
    const theirs = resolveMoby(moby, new Set(capabilities), machine);
    expect(ours.architectures.toSorted()).toEqual(theirs.architectures.toSorted());
    const found = new Set(differences(ours, theirs).map((each) => sentence(each.systemCall, each)));
    const expected = new Set(wantedIn(machine.architecture, capabilities));
    const where = `${machine.architecture} [${capabilities.length > 2 ? "all" : capabilities}]`;
    const note = (what: string) => surprises.set(what, [...(surprises.get(what) ?? []), where]);
    for (const each of found) if (!expected.has(each)) note(`undocumented: ${each}`);
    for (const each of expected) if (!found.has(each)) note(`documented, but not found: ${each}`);
  }
  expect([...surprises].map(([what, where]) => `${what} (${where.length} times, first ${where[0]})`)).toEqual([]);
});

function* situations() {
  for (const architecture of ["x64", "arm64"])
    for (const kernel of kernels)
      for (const capabilities of [[], capabilityNames, ...capabilityNames.map((name) => [name])])
        yield { architecture, kernel, capabilities };
}

function wantedIn(architecture: string, capabilities: readonly string[]): string[] {
  const all: readonly WantedDifference[] = wanted;
  return all
    .filter((each) => each.architecture === undefined || each.architecture === architecture)
    .filter((each) => each.with === undefined || capabilities.includes(each.with))
    .filter((each) => each.without === undefined || !capabilities.includes(each.without))
    .flatMap((each) => each.systemCalls.map((name) => sentence(name, each)));
}

function sentence(
  systemCall: string,
  { argument, ours, theirs }: Pick<WantedDifference, "argument" | "ours" | "theirs">,
): string {
  return `${systemCall}${argument === undefined ? "" : `(${argument})`}: ours ${ours}, Moby's ${theirs}`;
}
