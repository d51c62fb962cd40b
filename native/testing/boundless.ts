// A process without capabilities that has set itself a command line and an environment of 100 MiB, without using memory
// for them (prctl(2), PR_SET_MM_MAP), which any container can do.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

const program = `
import ctypes, mmap, struct, time
libc = ctypes.CDLL(None, use_errno=True)
size = 100 << 20
area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
field = lambda number: int(stat[number - 3])
libc.sbrk.restype = ctypes.c_void_p
layout = [field(26), field(27), field(45), field(46), field(47), libc.sbrk(0), field(28)]
memory_map = struct.pack("11Q Q 2I", *layout, start, start + size, start, start + size, 0, 0, 0xffffffff)
if libc.prctl(35, 14, memory_map, len(memory_map), 0): raise OSError(ctypes.get_errno(), "prctl")
print("ready", flush=True)
time.sleep(1000)`;

/** The caller must kill it. */
export async function startBoundless(): Promise<ChildProcess> {
  const child = spawn("setpriv", ["--inh-caps=-all", "--bounding-set=-all", "python3", "-c", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  return child;
}

/** The peak memory of Node.js, in megabytes, while it runs the module `text`. */
export function memoryAtMost(text: string): number {
  const script = `${text}\nprocess.stdout.write(String(process.resourceUsage().maxRSS / 1024));`;
  return Number(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }));
}
