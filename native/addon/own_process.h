// Work that may hang in the kernel for good, where no signal ends it.
#pragma once

#include <functional>

#include "common/error.h"

namespace keelson {

// Runs `work` in a process of its own, which has our memory and none of our descriptors, while this thread waits. A thread
// that hangs keeps its process from ending, and with it locks and sockets that the next daemon needs; this one does not.
Status in_own_process(const std::function<void()>& work);

}  // namespace keelson
