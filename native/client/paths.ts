// Where the built native parts are: beside this file, in the sources as in the published package.

import { fileURLToPath } from "node:url";

export interface NativePaths {
  /** The pod monitor (static executable). */
  readonly monitor: string;
  /** The layer unpacker (executable; ISA-L is a shared library that it needs). */
  readonly unpacker: string;
  /** The Node-API addon. */
  readonly addon: string;
}

/** Paths below `directory` (absolute), by default what `npm run build:native` made. */
export function nativePaths(directory: string = fileURLToPath(new URL("../build", import.meta.url))): NativePaths {
  return {
    monitor: `${directory}/keelson-monitor`,
    unpacker: `${directory}/keelson-unpack`,
    addon: `${directory}/keelson.node`,
  };
}
