// Reads a resolv.conf(5) as the DNS part of a result.
#pragma once

#include <string>

#include "cni/network_result.h"
#include "common/error.h"

namespace keelson {

Result<DnsResult> read_resolv_conf(const std::string& path);

}  // namespace keelson
