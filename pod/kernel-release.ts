// Compares kernel releases. Only major and minor count: 6.1.0-18-amd64 is 6.1.

/** `release` as uname(2) has it, `wanted` as in "6.5". */
export function isKernelAtLeast(release: string, wanted: string): boolean {
  const [major = 0, minor = 0] = parts(release);
  const [wantedMajor = 0, wantedMinor = 0] = parts(wanted);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

function parts(release: string): number[] {
  return release.split(/[.-]/).map(Number);
}
