// The process that pod monitors are forked from. Program startup (execve, relocation, libc's CPU detection, where each
// CPUID costs microseconds in a virtual machine) happens once instead of once per pod.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

struct ForkRequest {
  std::string pod_dir;
  Fd readiness;  // close-on-exec
};

// Called in the process forked for the request; returns that process's exit status.
using RunForked = std::function<int(ForkRequest)>;

// Called in the server when no process could be forked.
using ForkFailed = std::function<void(ForkRequest, const Error&)>;

// Serves requests on `socket` (SOCK_SEQPACKET) until its other end is closed. A forked process is a child of the
// server's parent (CLONE_PARENT in clone(2)); `words`, the program's argv, is overwritten in it with that of
// `keelson-monitor run <pod dir>`. Returns the exit status, both in the server and in a forked process.
int serve_forks(Fd socket, std::span<char*> words, const RunForked& run, const ForkFailed& failed);

}  // namespace keelson
