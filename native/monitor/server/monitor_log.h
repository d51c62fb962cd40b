// The monitor's own complaints: lines on stderr, which is the pod's monitor.log.
#pragma once

#include <string_view>

#include "common/error.h"

namespace keelson {

// Makes stderr the file at `path`, appending.
Status open_complaints(const char* path);
// One line with the time. The file starts anew when it has reached 64 KiB.
void complain(std::string_view sentence);

}  // namespace keelson
