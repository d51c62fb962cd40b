// Hand-written seccomp filters: the content of `seccomp_bpf` (PROTOCOL.md), struct sock_filter[] (linux/filter.h).

const loadWord = 0x20; // BPF_LD | BPF_W | BPF_ABS
const jumpIfEqual = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const answer = 0x06; // BPF_RET | BPF_K
const allow = 0x7fff0000;
const refuse = 0x00050001; // SECCOMP_RET_ERRNO | EPERM

const numbers: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: { mkdir: 83, mkdirat: 258, clone: 56 },
  arm64: { mkdirat: 34, clone: 220 },
};

function instruction(code: number, ifTrue: number, ifFalse: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(ifTrue, 2);
  bytes.writeUInt8(ifFalse, 3);
  bytes.writeUInt32LE(value, 4);
  return bytes;
}

/** A filter under which these system calls fail with EPERM, for this machine's architecture. */
export function refuseCalls(names: readonly string[]): Buffer {
  const known = numbers[process.arch] ?? {};
  const calls = names.flatMap((name) => known[name] ?? []);
  return Buffer.concat([
    instruction(loadWord, 0, 0, 0),
    ...calls.map((number, index) => instruction(jumpIfEqual, calls.length - index, 0, number)),
    instruction(answer, 0, 0, allow),
    instruction(answer, 0, 0, refuse),
  ]);
}
