import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainSecurity } from "../testing/configs.ts";
import { hiddenPaths, throttlePaths } from "./masking.ts";

test("without lists from the client, the newest defaults of other runtimes apply (CVE-2018-10892)", () => {
  const { maskedPaths, readonlyPaths } = hiddenPaths(plainSecurity, false, []);
  expect(maskedPaths).toEqual([
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
  ]);
  expect(readonlyPaths).toEqual(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
});

test("masked paths of a client are added to the defaults; its read-only paths replace the defaults", () => {
  const asked = { ...plainSecurity, maskedPaths: ["/proc/mine", "/proc/acpi"], readonlyPaths: ["/proc/sys"] };
  const { maskedPaths, readonlyPaths } = hiddenPaths(asked, false, []);
  expect(maskedPaths.slice(0, 3)).toEqual(["/proc/mine", "/proc/acpi", "/proc/asound"]);
  expect(new Set(maskedPaths).size).toBe(maskedPaths.length);
  expect(readonlyPaths).toEqual(["/proc/sys"]);
});

test("a path with a trailing slash is hidden as well", () => {
  const asked = {
    ...plainSecurity,
    maskedPaths: ["/proc/mine/", "//proc/./kcore"],
    readonlyPaths: ["/proc/sysrq-trigger/"],
  };
  const { maskedPaths, readonlyPaths } = hiddenPaths(asked, false, []);
  expect(maskedPaths.slice(0, 3)).toEqual(["/proc/mine", "/proc/kcore", "/proc/acpi"]);
  expect(readonlyPaths).toEqual(["/proc/sysrq-trigger"]);
});

test("nothing is hidden from a privileged container, nor with procMount Unmasked from one with a user namespace", () => {
  const nothing = { maskedPaths: [], readonlyPaths: [] };
  const asked = { ...plainSecurity, maskedPaths: ["/proc/mine"], readonlyPaths: ["/proc/sys"] };
  expect(hiddenPaths({ ...asked, privileged: true }, false, [])).toEqual(nothing);
  expect(hiddenPaths(plainSecurity, true, [])).toEqual(nothing);
  const own = hiddenPaths(asked, true, []);
  expect(own.maskedPaths).toContain("/sys/firmware");
  expect(own.readonlyPaths).toEqual(["/proc/sys"]);
});

test("thermal_throttle is masked for every CPU if any has it, as offline CPUs may come up (GHSA-6fw5-f8r9-fgfm)", async () => {
  const cpus = await mkdtemp(join(tmpdir(), "keelson-cpus-"));
  try {
    for (const name of ["cpu0/thermal_throttle", "cpu1", "cpu11/thermal_throttle", "cpufreq/thermal_throttle"])
      await mkdir(join(cpus, name), { recursive: true });
    const { maskedPaths } = hiddenPaths(plainSecurity, false, await throttlePaths(cpus));
    expect(maskedPaths.filter((path) => path.includes("thermal")).toSorted()).toEqual([
      "/sys/devices/system/cpu/cpu0/thermal_throttle",
      "/sys/devices/system/cpu/cpu1/thermal_throttle",
      "/sys/devices/system/cpu/cpu11/thermal_throttle",
    ]);
    for (const name of ["cpu0", "cpu11"]) await rm(join(cpus, name), { recursive: true });
    expect(await throttlePaths(cpus)).toEqual([]);
  } finally {
    await rm(cpus, { recursive: true });
  }
});
