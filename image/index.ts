// What the rest of Keelson sees of images.

export { hostPlatform, type Platform } from "./platform.ts";
export { openImageStore, type StoreOptions, storeDefaults } from "./store.ts";
export * from "./types.ts";
