// What a client was promised with a streaming URL.

import type { ContainerId, SandboxId } from "../../pod/types.ts";

export interface Streams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export type Wish =
  | { readonly kind: "exec"; readonly id: ContainerId; readonly command: readonly string[]; readonly streams: Streams }
  | { readonly kind: "attach"; readonly id: ContainerId; readonly streams: Streams }
  | { readonly kind: "portforward"; readonly id: SandboxId; readonly ports: readonly number[] };
