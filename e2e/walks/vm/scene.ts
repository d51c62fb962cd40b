// What a suite gets: a guest with Keelson installed, and steps to count.

import type { Steps } from "../../fixtures/steps.ts";
import type { Crictl } from "../crictl/crictl.ts";
import type { Driver } from "./keelson.ts";
import type { Machine } from "./machine.ts";

export interface Scene extends Pick<Steps, "step" | "add"> {
  readonly machine: Machine;
  readonly crictl: Crictl;
  readonly driver: Driver;
  print(line: string): void;
}
