// Connections that the kernel keeps track of.
#pragma once

#include <cstdint>
#include <vector>

#include "common/error.h"

namespace keelson {

// Forgets UDP flows to these ports of the host: one that is known goes on to where it went before there was a rule.
Status forget_udp_flows(int family, const std::vector<uint16_t>& ports);

}  // namespace keelson
