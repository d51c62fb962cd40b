// Connects a client to a TCP port inside the pod's network namespace.
#pragma once

#include <memory>

#include "monitor/server/connection.h"
#include "monitor/handler/handler.h"

namespace keelson {

// Connects to localhost:port, IPv4 first and then IPv6, for at most 10 s; answers STARTED, transfers bytes in both
// directions, and answers REPLY when the pod's side has ended.
void port_forward(Context& context, const std::shared_ptr<Connection>& client, uint16_t port);

}  // namespace keelson
