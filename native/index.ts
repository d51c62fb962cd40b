// The native API for the rest of Keelson. Nothing outside native/ depends on C++.

export { orAborted } from "./async/abort.ts";
export { settled } from "./async/settled.ts";
export { SingleFlight } from "./async/single-flight.ts";
export { Slots, takeAny } from "./async/slots.ts";
export { isDoneWithin, longestTimerMs, TimeLimit, withTimeLimit } from "./async/time-limit.ts";
export {
  type CatalogueEntry,
  catalogue,
  firstLine,
  isErrno,
  KeelsonError,
  messageOf,
  type StatusCode,
} from "./client/errors.ts";
export * from "./client/host.ts";
export { asNodeError, HostError, hostErrors } from "./client/host-errors.ts";
export { collect, giveBackWhenGrown, MemoryReturn, passedBuffer, reuseBuffers } from "./client/memory.ts";
export * from "./client/monitor.ts";
export { connectMonitor, findsHome } from "./client/monitor-client.ts";
export { MonitorError, monitorErrors, monitorRefusalErrors } from "./client/monitor-errors.ts";
export { type ForkServerOptions, MonitorForkServer } from "./client/monitor-fork-server.ts";
export { parseExited } from "./client/monitor-messages.ts";
export { type SpawnedMonitor, type SpawnOptions, spawnMonitor } from "./client/monitor-spawn.ts";
export { type NativePaths, nativePaths } from "./client/paths.ts";
export { ipcSysctls, isOfInterface, sysctlName, sysctlNamespace } from "./client/sysctls.ts";
export * from "./client/unpacker.ts";
export { unpackerErrors } from "./client/unpacker-errors.ts";
export { logAcceptErrors } from "./diagnostics/accept-errors.ts";
export type { Log, LogLevel } from "./diagnostics/log.ts";
export { beginWork, type Outcome, trackWork, type Work, watchWork } from "./diagnostics/work.ts";
export {
  type CgroupTree,
  detectCgroups,
  hostCgroupOptions,
  monitorHierarchies,
} from "./files/cgroup-hierarchies.ts";
export { changeFiles } from "./files/change-files.ts";
export { type MountEntry, mountOf, mountsBelow, readMountTable } from "./files/mount-table.ts";
export { readBounded, readBoundedBytes, readStart, UnfitFile } from "./files/read-file.ts";
export { type FileRead, readFiles } from "./files/read-files.ts";
export { flushDirectory, replaceFile, writeFile } from "./files/write-file.ts";
export {
  asArray,
  asInteger,
  asObject,
  asString,
  type Json,
  type JsonObject,
  MalformedJson,
  member,
  parseObject,
  without,
} from "./json/json.ts";
export { JsonReader, readJsonList, readJsonObject } from "./json/reader.ts";
export { killProcess, processIds } from "./processes/process-ids.ts";
export { endOf, type Program, type ProgramEnd, runProgram, startProgram } from "./processes/program.ts";
