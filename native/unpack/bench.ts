// Benchmark of unpacking one large layer, compared with GNU tar: node native/unpack/bench.ts [directory], as root.
//
// The layer is packed from this machine's own /usr: up to 25,000 files and 797 MB, gzip level 6. The directory (default
// /tmp) needs 3 GB. Each row is one run; nothing else should run at the same time. An ext4 without journal creates
// files slowly for minutes after many were deleted (it skips their inodes), for every program: use a fresh one, or
// /dev/shm.

import { execFileSync, spawnSync } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { pipeline } from "node:stream/promises";
import { nativePaths } from "../client/paths.ts";
import { unpackLayer } from "../client/unpacker.ts";

const fileCount = 25_000;
const totalBytes = 797_000_000;
const rounds = 3;
const { unpacker } = nativePaths();

const directory = mkdtempSync(path.join(process.argv[2] ?? "/tmp", "keelson-unpack-bench-"));
try {
  const layer = packLayer();
  print(["what".padEnd(36), "wall s", "user s", "sys s"].join("  "));
  for (let round = 0; round < rounds; round++) {
    const limits = "--max-bytes 2000000000 --max-inodes 1000000";
    timed("keelson-unpack", (into) => `${unpacker} --directory ${into} ${limits} < ${layer}`);
    timed(
      "keelson-unpack, blob kept",
      (into) => `${unpacker} --directory ${into} --blob ${into}.blob ${limits} < ${layer}`,
    );
    timed("tar -xzf", (into) => `tar --numeric-owner -C ${into} -xpzf ${layer}`);
    timed("gzip -dc | tar -x, and two sha256sum", (into) => {
      return `sha256sum ${layer}; gzip -dc ${layer} | tee >(sha256sum >&2) | tar --numeric-owner -C ${into} -xpf -`;
    });
    await fromNode(layer);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function packLayer(): string {
  const found = execFileSync("find", ["/usr", "-xdev", "-type", "f", "-size", "-64000k", "-printf", "%s %p\\n"], {
    maxBuffer: 1e8,
    encoding: "utf8",
  });
  const files = found.split("\n").map((line) => ({ size: Number.parseInt(line, 10), file: line.replace(/^\d+ /, "") }));
  const isSmall = ({ size }: { size: number }) => size < 65_536;
  const packed = files.filter(isSmall).slice(0, fileCount - 3000);
  let bytes = packed.reduce((sum, { size }) => sum + size, 0);
  for (const large of files.filter((each) => !isSmall(each))) {
    if (packed.length === fileCount || bytes >= totalBytes) break;
    packed.push(large);
    bytes += large.size;
  }
  writeFileSync(path.join(directory, "files"), packed.map(({ file }) => file).join("\n"));
  const layer = path.join(directory, "layer.tar.gz");
  execFileSync("sh", ["-c", `tar -C / -T ${directory}/files -cf - 2>/dev/null | gzip -6 > ${layer}`]);
  print(`${packed.length} files of /usr, ${bytes} bytes; gzip ${statSync(layer).size} bytes`);
  return layer;
}

/** Wall and CPU time of a command and all its children, by bash's `time`. */
function timed(what: string, command: (into: string) => string): void {
  const into = freshDirectory();
  const script = `TIMEFORMAT='TIME %R %U %S'; time { ${command(into)} ; } > /dev/null 2> >(cat > ${into}.err)`;
  const ran = spawnSync("bash", ["-c", script], { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`${what} failed: ${ran.stderr}`);
  const [, wall = "?", user = "?", sys = "?"] = /TIME (\S+) (\S+) (\S+)/.exec(ran.stderr) ?? [];
  print([what.padEnd(36), wall.padStart(6), user.padStart(6), sys.padStart(6)].join("  "));
  clear(into);
}

async function fromNode(layer: string): Promise<void> {
  const into = freshDirectory();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const start = performance.now();
  const unpack = unpackLayer(unpacker, { directory: into, maxBytes: 2_000_000_000n, maxInodes: 1_000_000n });
  await Promise.all([pipeline(createReadStream(layer), unpack.input), unpack.report]);
  const wall = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  delay.disable();
  const columns = [wall, used.user / 1e6, used.system / 1e6].map((value) => value.toFixed(3).padStart(6));
  const worst = `event loop p99 ${(delay.percentile(99) / 1e6).toFixed(1)} ms`;
  print(["unpackLayer; CPU of Node alone".padEnd(36), ...columns, worst].join("  "));
  clear(into);
}

function freshDirectory(): string {
  return mkdtempSync(path.join(directory, "into-"));
}

function clear(into: string): void {
  for (const name of [into, `${into}.blob`, `${into}.err`]) rmSync(name, { recursive: true, force: true });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
