// Signal state that a child must not inherit from the monitor.
#pragma once

#include "monitor/setup/child.h"

namespace keelson {

// Nothing blocked, nothing ignored: both would survive execve.
void reset_signals(const Child& child);

}  // namespace keelson
