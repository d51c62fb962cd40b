// Keelson as a service in a guest, and crictl to drive it.

import { stringify } from "smol-toml";
import { defaultNetwork } from "../../../cni/default-network.ts";
import { until } from "../../fixtures/steps.ts";
import type { Crictl } from "../crictl/crictl.ts";
import type { Machine } from "./machine.ts";

export const socket = "/run/keelson/keelson.sock";
export const metricsAddress = "127.0.0.1:9537";
export const bridge = "keelson0";
export const leases = "/var/lib/cni/networks";
export const subnet = "10.97.0.0/24";
/** Node.js alone takes eight seconds to start in a guest, and more than a minute if its host is busy. */
const startMs = 600_000;
const crictlSeconds = 240;

export const drivers = ["cgroupfs", "systemd"] as const;
export type Driver = (typeof drivers)[number];

/** Writes the configuration that a node's administrator would write: once per disk. */
export async function install(machine: Machine, driver: Driver): Promise<void> {
  await machine.run(`
    mkdir -p /etc/keelson /etc/cni/net.d /var/log/pods /etc/systemd/system/service.d
    cp /cargo/package/usr/lib/systemd/system/keelson.* /etc/systemd/system/
    printf '[Service]\\nTimeoutStartSec=10min\\n' >/etc/systemd/system/service.d/emulated.conf
    systemctl daemon-reload`);
  await write(
    machine,
    "/etc/keelson/config.toml",
    stringify({ metrics: { address: metricsAddress }, cgroup: { driver } }),
  );
  const network = defaultNetwork({ podCidrs: [subnet], bridge, dataDir: leases });
  await write(machine, "/etc/cni/net.d/10-keelson.conflist", network);
  const endpoint = `unix://${socket}`;
  const crictl = `runtime-endpoint: ${endpoint}\nimage-endpoint: ${endpoint}\ntimeout: ${crictlSeconds}\n`;
  await write(machine, "/etc/crictl.yaml", crictl);
}

/** Enables and starts the package's unit. Resolves when the daemon answers. */
export async function start(machine: Machine): Promise<void> {
  await machine.run("systemctl enable --now --quiet keelson", startMs / 1000);
  await answers(machine);
}

export async function answers(machine: Machine): Promise<void> {
  await until("keelson answers", startMs, async () => {
    const { code } = await machine.attempt("/cargo/bin/crictl version");
    return code === 0 ? true : undefined;
  }).catch(async (error: unknown) => {
    throw new Error(`keelson did not start; its log ends:\n${await log(machine)}`, { cause: error });
  });
}

/** The end of the daemon's log since this boot. */
export async function log(machine: Machine): Promise<string> {
  const { stdout } = await machine.attempt("journalctl --boot --unit=keelson --output=cat --lines=60 --no-pager");
  return stdout.toString();
}

export function crictlOf(machine: Machine): Crictl {
  const attempt: Crictl["attempt"] = async (...args) => {
    const words = args.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const { code, stdout, stderr } = await machine.attempt(`/cargo/bin/crictl ${words}`);
    return { code, stdout: stdout.toString(), stderr: stderr.toString() };
  };
  const run: Crictl["run"] = async (...args) => {
    const { code, stdout, stderr } = await attempt(...args);
    if (code !== 0) throw new Error(`crictl ${args.join(" ")}: exit code ${code}: ${stderr}${stdout}`);
    return stdout.trimEnd();
  };
  return { attempt, run, json: async (...args) => JSON.parse(await run(...args)) };
}

/** Writes a file in the guest. */
export async function write(machine: Machine, path: string, text: string): Promise<void> {
  await machine.run(`base64 -d >${path} <<'end'\n${Buffer.from(text).toString("base64")}\nend`);
}
