// Work for which a thread is to have something for itself that it would not get rid of: a namespace, a root, a working
// directory.
#pragma once

#include <functional>

#include "common/error.h"

namespace keelson {

// Runs `work` on a thread that ends with it, and waits for that. Fails where no thread can be started (EAGAIN), as with all
// process ids of the host in use; std::thread would end this process then.
Status in_own_thread(const std::function<void()>& work);

}  // namespace keelson
