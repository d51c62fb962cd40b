// Resource limits and the OOM score of a process.
#pragma once

#include <vector>

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// A hard limit above ours needs CAP_SYS_RESOURCE; where the monitor lacks it, ours is what the process gets.
void set_rlimits(const Child& child, const std::vector<Rlimit>& limits);

// `text` is the score in decimal. To be called while /proc is the host's. A score below the present
// one needs CAP_SYS_RESOURCE; without it the present one stays.
void set_oom_score(const Child& child, const char* text);

}  // namespace keelson
