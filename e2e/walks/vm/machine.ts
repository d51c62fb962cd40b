// A running guest: boots a disk under QEMU, runs commands in it, cuts its power.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { access, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Channel, type Outcome, openChannel } from "./channel.ts";
import type { GuestImage } from "./guest-image.ts";
import { startQemu } from "./qemu.ts";

export interface MachineParts {
  readonly qemu: string;
  readonly image: GuestImage;
  /** The boot disk: the image's own, which is not modified, or a copy, which keeps what is written. */
  readonly disk: string;
  /** The disk mounted read-only at /cargo. */
  readonly cargo: string;
  /** For QEMU's socket; owned by the caller. */
  readonly directory: string;
  /** Overwritten at each boot. */
  readonly consoleLog: string;
  /** Further kernel command line parameters. */
  readonly kernelWords?: readonly string[];
  /** The hardware clock, QEMU's -rtc base; the host's clock when absent. */
  readonly clock?: Date;
}

export interface Machine {
  readonly consoleLog: string;
  /** From QEMU's start until the guest was ready, for the successful boot. */
  readonly bootMs: number;
  /** How many boots failed before it. */
  readonly failedBoots: number;
  attempt(script: string, seconds?: number): Promise<Outcome>;
  /** Like `attempt`, but rejects if the script fails; returns its standard output without trailing newlines. */
  run(script: string, seconds?: number): Promise<string>;
  /** SIGKILLs QEMU: what the guest has not written to its disk is lost. */
  cut(): Promise<void>;
  /** Waits for QEMU to exit, as it does after `systemctl reboot`. */
  ended(deadlineMs: number): Promise<void>;
}

/** How long the boot took, and how many attempts failed. */
export function describeBoot({ bootMs, failedBoots }: Machine): string {
  const tries = failedBoots === 0 ? "" : `, after ${failedBoots} failed boots`;
  return `ready ${(bootMs / 1000).toFixed(1)} s after QEMU's start${tries}`;
}

/** A boot takes 20 to 40 s of QEMU's CPU time, whatever the load of the host; a boot that hangs keeps spinning. */
const bootCpuSeconds = 90;
const bootDeadlineMs = 300_000;
/** The unit of /proc/PID/stat, on all architectures of Linux. */
const ticksPerSecond = 100;
/** Under emulation about one boot in fourteen panics or hangs. Only boots are retried. */
const tries = 3;
const commandSeconds = 300;

export async function bootMachine(parts: MachineParts): Promise<Machine> {
  const failures: unknown[] = [];
  while (failures.length < tries) {
    try {
      return await boot(parts, failures.length);
    } catch (error) {
      failures.push(error);
    }
  }
  throw new AggregateError(failures, `the guest ${parts.image.name} was not ready in any of ${tries} boots`);
}

async function boot(parts: MachineParts, failedBoots: number): Promise<Machine> {
  const { consoleLog } = parts;
  const agent = join(parts.directory, "agent.sock");
  await rm(agent, { force: true });
  const began = performance.now();
  const qemu = startQemu(parts.qemu, hardware(parts, agent));
  let said = "";
  qemu.stderr?.on("data", (bytes: Buffer) => {
    said = `${said}${bytes}`.slice(-2000);
  });
  const gone = once(qemu, "exit").then(() => undefined);
  let channel: Channel;
  const booting = new AbortController();
  try {
    const ended = gone.then((): never => {
      throw new Error("QEMU exited while the guest booted");
    });
    channel = await Promise.race([ready(agent), ended, exceedsCpuTime(qemu, booting.signal)]);
  } catch (error) {
    await kill(qemu, gone);
    throw new Error(`the boot failed; QEMU printed "${said}"; the console ends:\n${await endOf(consoleLog)}`, {
      cause: error,
    });
  } finally {
    booting.abort();
  }
  const bootMs = performance.now() - began;
  const attempt = (script: string, seconds = commandSeconds) => channel.attempt(script, seconds);
  const cut = async () => {
    channel.close();
    await kill(qemu, gone);
  };
  return {
    consoleLog,
    bootMs,
    failedBoots,
    attempt,
    run: async (script, seconds) => {
      const { code, stdout, stderr } = await attempt(script, seconds);
      if (code !== 0) throw new Error(`exit code ${code} in the guest: ${script}\n${stderr}${stdout}`);
      return stdout.toString().trimEnd();
    },
    cut,
    ended: async (deadlineMs) => {
      const late = delay(deadlineMs, "late", { ref: false });
      const first = await Promise.race([gone, late]);
      await cut();
      if (first === "late") throw new Error(`the guest did not shut down within ${deadlineMs} ms`);
    },
  };
}

export async function endOf(consoleLog: string): Promise<string> {
  return (await readFile(consoleLog, "utf8").catch(() => "")).trimEnd().split("\n").slice(-30).join("\n");
}

async function kill(qemu: ChildProcess, gone: Promise<void>): Promise<void> {
  qemu.kill("SIGKILL");
  await gone;
}

/** Rejects when QEMU has used more CPU time than a boot takes, and on abort. */
async function exceedsCpuTime(qemu: ChildProcess, signal: AbortSignal): Promise<never> {
  for (;;) {
    await delay(1000, undefined, { signal });
    const stat = await readFile(`/proc/${qemu.pid}/stat`, "utf8").catch(() => "");
    const [user, system] = stat.slice(stat.lastIndexOf(")")).split(" ").slice(12, 14).map(Number);
    if (((user ?? 0) + (system ?? 0)) / ticksPerSecond > bootCpuSeconds)
      throw new Error(`the guest was not ready after ${bootCpuSeconds} s of QEMU's CPU time`);
  }
}

async function ready(agent: string): Promise<Channel> {
  const end = performance.now() + bootDeadlineMs;
  while (await absent(agent)) {
    if (performance.now() > end) throw new Error(`QEMU did not create ${agent} within ${bootDeadlineMs} ms`);
    await delay(20);
  }
  return await openChannel(agent, end - performance.now());
}

function absent(path: string): Promise<boolean> {
  return access(path).then(
    () => false,
    () => true,
  );
}

function hardware(parts: MachineParts, agent: string): readonly string[] {
  const kernelWords = [
    ...["root=/dev/nvme0n1", "rw", "console=ttyS0", "panic=-1", "net.ifnames=0", "systemd.show_status=0"],
    // Without this, each boot of a fresh disk would count as its first boot.
    `systemd.machine_id=${"0".repeat(30)}13`,
    ...["loglevel=5", "no_timer_check", "random.trust_cpu=on"],
    // Without bpf, whose hooks slow down every system call.
    "lsm=landlock,lockdown,yama,integrity,apparmor",
    ...parts.image.kernelWords,
    ...(parts.kernelWords ?? []),
  ];
  // Writes to the image's own disk go to a temporary file, which is discarded.
  const kept = parts.disk === parts.image.disk ? "snapshot=on,cache=unsafe" : "cache=writeback";
  // With two NVMe disks, either may become the first.
  const drive = (device: string, id: string, file: string, how: string) => [
    ...["-drive", `file=${file},if=none,id=${id},format=raw,${how}`],
    ...["-device", `${device},drive=${id},serial=${id}`],
  ];
  return [
    ...["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "3072"],
    ...["-kernel", parts.image.kernel, "-append", kernelWords.join(" ")],
    ...(parts.clock === undefined ? [] : ["-rtc", `base=${parts.clock.toISOString().slice(0, 19)}`]),
    ...["-serial", `file:${parts.consoleLog}`],
    ...drive("nvme", "root", parts.disk, kept),
    ...drive("virtio-blk-pci", "cargo", parts.cargo, "readonly=on,cache=unsafe"),
    ...["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"],
    ...["-chardev", `socket,id=agent,path=${agent},server=on,wait=off`],
    ...["-device", "virtserialport,chardev=agent,name=agent"],
  ];
}
