// System calls without libc, for a process that has neither its thread-local storage nor its stack guard.
#pragma once

namespace keelson {

// Built without the checks that look into memory which is not there.
#define KEELSON_BARE __attribute__((no_stack_protector, no_sanitize("address", "undefined")))

// The result, or minus errno.
KEELSON_BARE inline __attribute__((always_inline)) long raw_syscall(long number, long a = 0, long b = 0, long c = 0) {
#if defined(__x86_64__)
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
#error "no system call instruction is known for this architecture"
#endif
}

}  // namespace keelson
