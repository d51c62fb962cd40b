// The configuration: defaults, file, drop-ins, flags, and every kind of mistake.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadConfig, printConfig } from "./config.ts";
import { sampleConfig, settings } from "./settings.ts";

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-config-"));
  file = join(directory, "config.toml");
});

afterEach(() => rm(directory, { recursive: true }));

test("an empty file means the defaults", async () => {
  await writeFile(file, "");
  expect(await loadConfig(file)).toEqual({
    root: "/var/lib/keelson",
    state: "/run/keelson",
    socket: "/run/keelson/keelson.sock",
    logLevel: "info",
    cgroupDriver: "auto",
    cgroupRoot: "/keelson",
    cniConfDir: "/etc/cni/net.d",
    cniBinDirs: ["/opt/cni/bin", "/usr/lib/cni"],
    cniFromPodCidr: false,
    registriesDir: "/etc/keelson/registries",
    streamingAddress: "127.0.0.1",
    streamingPort: 0,
    defaultHandler: "native",
    handlers: new Map(),
  });
});

test("drop-ins override the file in the order of their names, and flags override all", async () => {
  await writeFile(file, 'root = "/one"\nstate = "/s"\n[runtime.handlers.runc]\nbinary = "/usr/bin/runc"\n');
  await mkdir(`${file}.d`);
  await writeFile(`${file}.d/20.toml`, 'root = "/three"\n[log]\nlevel = "warn"\n');
  await writeFile(
    `${file}.d/10.toml`,
    'root = "/two"\n[log]\nlevel = "debug"\n[runtime.handlers.crun]\nbinary = "/c"\n',
  );
  await writeFile(`${file}.d/30.toml.bak`, "nonsense");
  await symlink("operator@node.1", `${file}.d/.#20.toml`);
  await symlink("/dev/null", `${file}.d/40.toml`);
  const config = await loadConfig(file, new Map([["log.level", "error"]]));
  expect(config).toMatchObject({ root: "/three", logLevel: "error", socket: "/s/keelson.sock" });
  expect([...config.handlers]).toEqual([
    ["runc", "/usr/bin/runc"],
    ["crun", "/c"],
  ]);
});

test("the printed configuration is equivalent when read again", async () => {
  await writeFile(
    file,
    'socket = "/x"\n[cni]\nbin_dirs = ["/a"]\n[runtime]\ndefault_handler = "r"\nhandlers.r.binary = "/r"\n',
  );
  const config = await loadConfig(file);
  const again = join(directory, "again.toml");
  await writeFile(again, printConfig(config));
  expect(await loadConfig(again)).toEqual(config);
});

test("the sample has every key and equals the defaults, both as is and uncommented", async () => {
  await writeFile(file, "");
  const defaults = await loadConfig(file);
  await writeFile(file, sampleConfig());
  expect(await loadConfig(file)).toEqual(defaults);
  await writeFile(file, sampleConfig().replaceAll(/^# (\[.*\]|\w+ = .*)$/gm, "$1"));
  expect(await loadConfig(file)).toEqual({
    ...defaults,
    metricsAddress: { host: "127.0.0.1", port: 9537 },
    handlers: new Map([["runc", "/usr/bin/runc"]]),
  });
  for (const { key, effect } of Object.values(settings)) {
    expect(sampleConfig()).toContain(`# ${effect}\n# ${key.split(".").at(-1)} = `);
  }
});

test.each([
  ["[::1]:0", { host: "::1", port: 0 }],
  ["0.0.0.0:65535", { host: "0.0.0.0", port: 65_535 }],
])("metrics.address %s", async (text, address) => {
  await writeFile(file, `[metrics]\naddress = "${text}"\n`);
  const config = await loadConfig(file);
  expect(config.metricsAddress).toEqual(address);
  await writeFile(file, printConfig(config));
  expect(await loadConfig(file)).toEqual(config);
});

describe("an invalid configuration", () => {
  test.each([
    ["an unknown key", 'rot = "/x"', "sets the key rot, which does not exist. Did you mean root?"],
    [
      "a key in the wrong table",
      '[cni]\nconf_directory = "/x"',
      "sets the key cni.conf_directory, which does not exist. Did you mean cni.conf_dir?",
    ],
    [
      "an unknown table",
      "[plugins.cri]\nx = 1",
      "sets the key plugins, which does not exist. The known keys are root, state",
    ],
    ["an unknown key of a handler", "[runtime.handlers.r]\npath = 1", "sets the key runtime.handlers.r.path"],
    [
      "a handler without a binary",
      "[runtime.handlers.runc]",
      "sets the key runtime.handlers.runc, which does not exist. Did you mean runtime.handlers.runc.binary?",
    ],
    ["__proto__", "[__proto__]\nroot = 1", "sets the key __proto__, which does not exist"],
    ["a relative path", 'root = "x"', 'sets the key root to "x". Set it to an absolute path.'],
    ["a number for a path", "socket = 5", "sets the key socket to 5. Set it to an absolute path."],
    ["a table for a value", "[root]\nx = 1", "sets the key root to"],
    ["a value for a table", "log = 1", "sets the key log, which does not exist. Did you mean log.level?"],
    [
      "an unknown level",
      '[log]\nlevel = "loud"',
      'sets the key log.level to "loud". Set it to one of debug, info, warn, error.',
    ],
    [
      "streams off loopback",
      '[streaming]\naddress = "10.0.0.1"',
      "Set it to a loopback address (127.0.0.1 or ::1, to which the kubelet forwards), as sessions are not encrypted.",
    ],
    ["a name for metrics", '[metrics]\naddress = "localhost:1"', "Set it to an IP address and a port"],
    ["IPv6 without brackets", '[metrics]\naddress = "::1:1"', "Set it to an IP address and a port"],
    ["a port out of range", '[metrics]\naddress = "127.0.0.1:65536"', "Set it to an IP address and a port"],
    ["a string for a boolean", '[cni]\nfrom_pod_cidr = "yes"', 'to "yes". Set it to true or false.'],
    ["no directory for plugins", "[cni]\nbin_dirs = []", "to []. Set it to a list of at least one absolute path."],
    [
      "a cgroup outside of its hierarchy",
      '[cgroup]\nroot = "/a/.."',
      'to "/a/..". Set it to an absolute path without . and ..',
    ],
    ["a mixed list", '[cni]\nbin_dirs = ["/a", 1]', "sets the key cni.bin_dirs to"],
    ["invalid TOML", "root = ", "is not valid TOML: Invalid TOML document"],
  ])("%s is reported with its file", async (_name, text, sentence) => {
    await writeFile(file, text);
    const error = await loadConfig(file).catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toContain(file);
    expect(String(error)).toContain(sentence);
  });

  test("a binary with the name of Keelson's own handler", async () => {
    await writeFile(file, '[runtime.handlers.native]\nbinary = "/x"\n');
    await expect(loadConfig(file)).rejects.toThrow("would replace Keelson's own handler. Give the OCI runtime");
  });

  test("the same directory for persistent and volatile state", async () => {
    await writeFile(file, 'root = "/srv/keelson"\nstate = "/srv/keelson/"\n');
    await expect(loadConfig(file)).rejects.toThrow(
      "The keys root and state are both /srv/keelson. Give each its own directory",
    );
  });

  test("an explicitly named file that does not exist", async () => {
    await expect(loadConfig(file)).rejects.toThrow(`The configuration file ${file} cannot be read: ENOENT`);
  });

  test("bytes that are not UTF-8", async () => {
    await writeFile(file, Buffer.from('root = "/caf\u00e9"', "latin1"));
    await expect(loadConfig(file)).rejects.toThrow(`${file} cannot be read: The encoded data was not valid`);
  });

  test("a FIFO, which would block the start", async () => {
    execFileSync("mkfifo", [file]);
    await expect(loadConfig(file)).rejects.toThrow(`${file} cannot be read: it is a FIFO`);
  });

  test("a drop-in is checked like the file", async () => {
    await writeFile(file, "");
    await mkdir(`${file}.d`);
    await writeFile(`${file}.d/a.toml`, "x = 1");
    await expect(loadConfig(file)).rejects.toThrow(`${file}.d/a.toml sets the key x`);
  });
});
