// This host's cgroup hierarchies in the form of sandbox.json.

import { readFileSync } from "node:fs";
import { findHierarchies, monitorHierarchies } from "../files/cgroup-hierarchies.ts";
import { parseMountTable } from "../files/mount-table.ts";

export function sandboxHierarchies(): object {
  return monitorHierarchies(findHierarchies(parseMountTable(readFileSync("/proc/self/mountinfo", "latin1"))));
}
