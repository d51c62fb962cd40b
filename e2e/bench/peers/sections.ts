// The parts of the bench, in their order: memory is measured after a pull and lists, recovery with the pods already there.

import type { Bench } from "./bench.ts";
import { burst } from "./scenarios/burst.ts";
import { lifecycle } from "./scenarios/lifecycle.ts";

export const sections: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  pods: lifecycle,
  burst,
};
