// Releases of OCI runtimes that are known to let an image or a container escape to the host, and are refused.
//
// What counts is the upstream version that the binary prints for `--version`. Distributions backport fixes without
// changing it (1.1.5+ds1-1+deb12u1), and it does not show which ones, so such a binary is judged by its version.
// A program that is not listed here has no advisory of this kind (runsc) or is unknown to us; one that prints no
// version at all cannot be judged and is refused.
//
// Ignored are vulnerabilities that our bundles rule out for every version: no user is given by name or text
// (CVE-2026-30892), /dev has its own mount (CVE-2026-88264, CVE-2026-88265), no pod annotation reaches
// config.json (CVE-2025-24965, GHSA-rr59-xxvx-96qr).

interface Advisory {
  readonly ids: readonly string[];
  /** The first fixed release of each branch; branches after the last one always have the fix. */
  readonly fixed: readonly string[];
}

/** By the program name in the version output. The newest advisory comes first: it defines the releases to install. */
const advisories: ReadonlyMap<string, readonly [Advisory, ...Advisory[]]> = new Map([
  [
    "runc",
    [
      { ids: ["CVE-2026-41579"], fixed: ["1.3.6", "1.4.3", "1.5.0-rc.3"] },
      { ids: ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"], fixed: ["1.2.8", "1.3.3", "1.4.0-rc.3"] },
      { ids: ["CVE-2024-21626"], fixed: ["1.1.12"] },
    ],
  ],
  ["crun", [{ ids: ["CVE-2026-47766"], fixed: ["1.28"] }]],
  ["youki", [{ ids: ["CVE-2025-62161", "CVE-2025-62596"], fixed: ["0.5.7"] }]],
  ["kata-runtime", [{ ids: ["GHSA-2gv2-cffp-j227"], fixed: ["3.31.0"] }]],
]);

export type Verdict =
  | { readonly kind: "passes" }
  | { readonly kind: "silent" }
  | {
      readonly kind: "refused";
      /** As printed, "runc 1.1.5+ds1". */
      readonly found: string;
      readonly advisories: readonly string[];
      /** "runc 1.3.6, 1.4.3, 1.5.0-rc.3". */
      readonly wanted: string;
    };

/**
 * Judges a binary's `--version` output, e.g. "runc version 1.1.5+ds1", "youki version: 0.5.7",
 * "kata-runtime  : 3.31.0", each on its own line. A wrapper that prints the version of the runtime it wraps, as
 * NVIDIA's does, is judged by that version.
 */
export function judge(printed: string): Verdict {
  if (printed.trim() === "") return { kind: "silent" };
  for (const line of printed.split("\n")) {
    const words = line.trim().split(/[\s:]+/);
    const [name = "", version = ""] = [words[0], words.at(-1)];
    const known = advisories.get(name);
    if (known === undefined) continue;
    if (!/^v?\d+\.\d/.test(version)) return { kind: "silent" };
    const open = known.filter(({ fixed }) => !hasFix(version, fixed));
    if (open.length === 0) continue;
    return {
      kind: "refused",
      found: `${name} ${version}`,
      advisories: open.flatMap(({ ids }) => ids).sort(),
      wanted: `${name} ${known[0].fixed.join(", ")}`,
    };
  }
  return { kind: "passes" };
}

function hasFix(version: string, fixed: readonly string[]): boolean {
  const numbers = parse(version);
  const branches = fixed.map(parse);
  const own = branches.find(([major, minor]) => major === numbers[0] && minor === numbers[1]);
  const last = branches.at(-1);
  return own === undefined ? last !== undefined && isAtLeast(numbers, last) : isAtLeast(numbers, own);
}

type Numbers = readonly [major: number, minor: number, patch: number, candidate: number];

/**
 * A release candidate ("1.5.0-rc.3", "1.0.0-rc93") precedes its release; other suffixes ("+ds1") are vendor suffixes.
 */
function parse(version: string): Numbers {
  const [, major, minor, patch, candidate] =
    /^(\d+)\.(\d+)(?:\.(\d+))?(?:[-~]rc\.?(\d+))?/.exec(version.replace(/^v/, "")) ?? [];
  return [Number(major), Number(minor), Number(patch ?? 0), candidate === undefined ? Infinity : Number(candidate)];
}

function isAtLeast(numbers: Numbers, floor: Numbers): boolean {
  for (const [at, number] of numbers.entries()) {
    const least = floor[at] ?? 0;
    if (number !== least) return number > least;
  }
  return true;
}
