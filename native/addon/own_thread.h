// Runs work that changes its thread irreversibly: its namespaces, root or working directory.
#pragma once

#include <functional>

#include "common/error.h"

namespace keelson {

// Runs `work` on a temporary thread and waits for it. Fails if no thread can be started (EAGAIN), for example because all
// process ids of the host are in use; std::thread would terminate the process then.
Status in_own_thread(const std::function<void()>& work);

}  // namespace keelson
