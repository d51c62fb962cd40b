// What the rest of Keelson sees of the native side. Nothing outside native/ knows that C++ exists.

export { type CatalogueEntry, catalogue, KeelsonError, type StatusCode } from "./errors.ts";
export * from "./host.ts";
export { HostError } from "./host-errors.ts";
export { inHand, type Work, watchWork, whileInHand } from "./in-hand.ts";
export { MemoryReturn } from "./memory.ts";
export * from "./monitor.ts";
export { connectMonitor } from "./monitor-client.ts";
export { MonitorError } from "./monitor-errors.ts";
export { parseExited } from "./monitor-messages.ts";
export { type SpawnedMonitor, type SpawnOptions, spawnMonitor } from "./monitor-spawn.ts";
export { type NativePaths, nativePaths } from "./paths.ts";
export * from "./unpacker.ts";
export { namingFile, writeFile } from "./write-file.ts";
