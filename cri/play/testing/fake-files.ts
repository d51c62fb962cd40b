// node:fs/promises without real files, for tests with a fake clock: real file operations would take real time.

type Files = typeof import("node:fs/promises");

/** A factory for vi.mock. */
export async function fakeFiles(importOriginal: <Module>() => Promise<Module>) {
  return {
    ...(await importOriginal<Files>()),
    mkdir: async () => undefined,
    readFile: async () => "",
    rm: async () => undefined,
    stat: async () => ({ size: 0 }),
    writeFile: async () => undefined,
  };
}
