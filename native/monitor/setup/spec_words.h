// The words that config.json uses for kernel constants: capabilities, mount options, propagation.
#pragma once

#include <string_view>

#include "monitor/setup/spec.h"

namespace keelson {

// "CAP_NET_RAW" → its bit number, -1 for a name this build does not know.
int capability_number(std::string_view name);

// Takes an option of mount(8) or of the runtime spec into `mount`. False when it is
// none of these: then it is for the file system.
bool apply_mount_option(std::string_view option, MountSpec& mount);

// "rslave" → MS_SLAVE | MS_REC; 0 when it is no word for propagation.
uint64_t propagation_flags(std::string_view word);

}  // namespace keelson
