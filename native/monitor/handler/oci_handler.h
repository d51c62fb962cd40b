// The OCI handler: runs an OCI runtime binary on the same bundle.
//
// create (its stdio becomes the container's), start, exec --detach, kill, delete --force. The runtime's processes
// become children of the monitor, their subreaper, when the runtime exits.
#pragma once

#include <memory>
#include <string>

#include "monitor/handler/handler.h"

namespace keelson {

// The runtime's files (its log, pid files, console socket) are in `bundle` too.
std::unique_ptr<Handler> make_oci_handler(Context& context, std::string id, std::string bundle, std::string binary,
                                          std::string root);

}  // namespace keelson
