// All plugins of this program.
#pragma once

#include <span>
#include <string_view>

#include "cni/plugins/plugin.h"

namespace keelson {

std::span<const Plugin* const> all_plugins();
// Null if there is no plugin of that name.
const Plugin* find_plugin(std::string_view name);

}  // namespace keelson
