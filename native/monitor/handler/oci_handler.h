// The OCI handler: drives an OCI runtime binary over the same bundle.
//
// create (its stdio becomes the container's), start, exec --detach, kill, delete --force. The
// runtime's processes become our children when it exits, for we are their subreaper.
#pragma once

#include <memory>
#include <string>

#include "monitor/handler/handler.h"

namespace keelson {

// `bundle` holds the runtime's files too: its log, pid files, console socket.
std::unique_ptr<Handler> make_oci_handler(Context& context, std::string id, std::string bundle, std::string binary,
                                          std::string root);

}  // namespace keelson
