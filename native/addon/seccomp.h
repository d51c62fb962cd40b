// Turns an OCI `linux.seccomp` object into the program that seccomp(2) loads.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

// `profile_json` as in the runtime spec (config-linux.md, "Seccomp"). The answer is an array of
// struct sock_filter. Names of system calls that this libseccomp does not know are left out:
// they get the default action. The flags TSYNC and SPEC_ALLOW change nothing (one thread; the
// mitigation stays); other flags and SCMP_ACT_NOTIFY are not in a program and are refused.
Result<std::string> compile_seccomp(std::string_view profile_json);

}  // namespace keelson
