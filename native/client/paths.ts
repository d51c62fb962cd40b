// Where the built native parts are, relative to this file, both in the source tree and in the published package.

import { fileURLToPath } from "node:url";

export interface NativePaths {
  /** The pod monitor (static executable). */
  readonly monitor: string;
  /** The layer unpacker (executable; ISA-L is a shared library that it needs). */
  readonly unpacker: string;
  /** The Node-API addon. */
  readonly addon: string;
}

/** The output of `npm run build:native`. */
export function nativePaths(): NativePaths {
  const directory = fileURLToPath(new URL("../build", import.meta.url));
  return {
    monitor: `${directory}/keelson-monitor`,
    unpacker: `${directory}/keelson-unpack`,
    addon: `${directory}/keelson.node`,
  };
}
