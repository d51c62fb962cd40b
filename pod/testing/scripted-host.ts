// The host functions that the pod model needs: only metrics are read by the addon, trees are really removed, mounts do
// not exist.

import { rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Host, loadHost } from "../../native/index.ts";
import type { Script } from "./script.ts";

const { readFigures, readFiguresAgain, forgetFigures, changeFiles, presentPath, resolvePath } = loadHost();
const { startProgram, askForFork, endedChild, reapPrograms } = loadHost();

export function scriptedHost(script: Script): Host {
  const unscripted = (name: string) => async () => {
    throw new Error(`${name} is not scripted`);
  };
  return {
    readFigures,
    readFiguresAgain,
    forgetFigures,
    changeFiles,
    startProgram,
    askForFork,
    endedChild,
    reapPrograms,
    readFiles: async (paths) => await Promise.all(paths.map((path) => readFile(path).catch(() => null))),
    removeTree: async (path) =>
      await script.call("host removeTree", path, () => rmSync(path, { recursive: true, force: true })),
    hasLabel: async () => false,
    relabelTree: async (path, label) => await script.call("host relabelTree", `${path} ${label}`, () => 0n),
    resolvePath,
    presentPath: async (path) => await script.call("host presentPath", path, () => presentPath(path)),
    unmount: async (path) => await script.call("host unmount", path, () => undefined),
    countDescriptors: async () => ({ all: 0n, sockets: 0n }),
    // No image has /etc/passwd or /etc/group.
    readFromLayers: async (_layers, paths) => paths.map(() => ({ kind: "missing" })),
    compileSeccomp: async () => Buffer.alloc(8),
    hostCapabilities: () => 0n,
    limitKeptMemory: () => undefined,
    reuseFreedBuffers: () => undefined,
    trimHeap: () => undefined,
    letGoOfProgram: () => undefined,
    unblockUsr1: () => undefined,
    syncFileSystem: unscripted("syncFileSystem"),
    openInside: unscripted("openInside"),
    diskUsage: unscripted("diskUsage"),
    coverUnnamed: unscripted("coverUnnamed"),
    removedPaths: unscripted("removedPaths"),
    sealedCopy: unscripted("sealedCopy"),
    emptyMountNamespace: unscripted("emptyMountNamespace"),
    tryLock: unscripted("tryLock"),
    notifyManager: unscripted("notifyManager"),
    adoptListener: unscripted("adoptListener"),
    pinNamespace: unscripted("pinNamespace"),
    hasInterface: unscripted("hasInterface"),
    readInterfaces: unscripted("readInterfaces"),
    exitNow: () => {
      throw new Error("exitNow is not scripted");
    },
  };
}
