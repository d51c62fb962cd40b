// The process.json of an OCI runtime's exec: the container's own process with another command.
#pragma once

#include <string>

#include "monitor/handler/handler.h"

namespace keelson {

// Takes `process` of the bundle's config.json, replaces args, terminal and consoleSize, and writes `path`.
Status write_exec_process(const std::string& config_path, const std::string& path, const ExecOrder& order);

}  // namespace keelson
