// The native handler: creates a container's processes itself (setup/container_init, setup/container_exec).
#pragma once

#include <memory>

#include "monitor/handler/handler.h"

namespace keelson {

std::unique_ptr<Handler> make_native_handler(Context& context);

}  // namespace keelson
