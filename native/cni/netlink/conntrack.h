// Connection tracking.
#pragma once

#include <cstdint>
#include <vector>

#include "common/error.h"

namespace keelson {

// Deletes the UDP flows to these ports of the host: a tracked flow would ignore new rules and go where it went before.
Status forget_udp_flows(int family, const std::vector<uint16_t>& ports);

}  // namespace keelson
