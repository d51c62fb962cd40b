// ExecSync of `true`, the cheapest command: the rest is the server's own cost.

import { timed } from "../bench.ts";
import type { Callee } from "../pods.ts";

/** Duration in milliseconds; rejects when the exec fails. */
export async function execTrue({ client }: Callee, containerId: string): Promise<number> {
  const [took, { exitCode }] = await timed(() => client.execSync({ containerId, cmd: ["true"] }));
  if (exitCode !== 0) throw new Error(`true answered ${exitCode}`);
  return took;
}
