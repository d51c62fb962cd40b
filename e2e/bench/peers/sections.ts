// The sections of the benchmark, in order: memory is measured after pulls and lists, recovery with the existing pods.

import type { Bench } from "./bench.ts";
import { burst } from "./scenarios/burst.ts";
import { busy } from "./scenarios/busy.ts";
import { lifecycle } from "./scenarios/lifecycle.ts";
import { log } from "./scenarios/log.ts";
import { pull } from "./scenarios/pull.ts";
import { recovery } from "./scenarios/recovery.ts";
import { rest } from "./scenarios/rest.ts";

export const sections: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  pods: lifecycle,
  burst,
  log,
  pull,
  rest,
  busy,
  recovery,
};
