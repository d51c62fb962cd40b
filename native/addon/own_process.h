// Runs work that may hang in the kernel permanently, where no signal can end it.
#pragma once

#include <functional>

#include "common/error.h"

namespace keelson {

// Runs `work` in a separate process that shares our memory and has none of our descriptors, while this thread waits. A hung
// thread would keep the daemon from exiting, and so keep locks and sockets that the next daemon needs; a hung child does
// not.
Status in_own_process(const std::function<void()>& work);

}  // namespace keelson
