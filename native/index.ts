// What the rest of Keelson sees of the native side. Nothing outside native/ knows that C++ exists.

export {
  type CatalogueEntry,
  catalogue,
  firstLine,
  KeelsonError,
  messageOf,
  type StatusCode,
} from "./client/errors.ts";
export * from "./client/host.ts";
export { HostError, hostErrors } from "./client/host-errors.ts";
export { inHand, type Work, watchWork, whileInHand } from "./client/in-hand.ts";
export { MemoryReturn } from "./client/memory.ts";
export * from "./client/monitor.ts";
export { connectMonitor } from "./client/monitor-client.ts";
export { MonitorError, monitorErrors, monitorRefusalErrors } from "./client/monitor-errors.ts";
export { parseExited } from "./client/monitor-messages.ts";
export { type SpawnedMonitor, type SpawnOptions, spawnMonitor } from "./client/monitor-spawn.ts";
export { type NativePaths, nativePaths } from "./client/paths.ts";
export * from "./client/unpacker.ts";
export { unpackerErrors } from "./client/unpacker-errors.ts";
export { namingFile, writeFile } from "./client/write-file.ts";
