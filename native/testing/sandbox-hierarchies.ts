// What sandbox.json says of this host's cgroup hierarchies.

import { readFileSync } from "node:fs";
import { findHierarchies, monitorHierarchies } from "../files/cgroup-hierarchies.ts";
import { parseMountTable } from "../files/mount-table.ts";

export function sandboxHierarchies(): object {
  return monitorHierarchies(findHierarchies(parseMountTable(readFileSync("/proc/self/mountinfo", "latin1"))));
}
