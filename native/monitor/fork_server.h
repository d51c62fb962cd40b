// The process that the monitors of pods are forked from. What the start of a program takes (execve, relocation, libc's look at
// the processor, each question of which costs a virtual machine microseconds) is done once, and not for each pod.
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

// Called in the process that was forked for the request; its result is that process's exit status.
using RunForked = std::function<int(ForkRequest)>;

// Called in the server, when no process could be forked.
using ForkFailed = std::function<void(ForkRequest, const Error&)>;

// Serves requests at `socket` (SOCK_SEQPACKET) until its other end is closed. A forked process is a child of the server's
// parent (CLONE_PARENT in clone(2)), and has in place of `words`, the program's argv, those of `keelson-monitor run <pod dir>`.
// Returns the exit status: in the server, or in a process that was forked.
int serve_forks(Fd socket, std::span<char*> words, const RunForked& run, const ForkFailed& failed);

}  // namespace keelson
