// Compiles an OCI `linux.seccomp` object to the BPF program that seccomp(2) loads.
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

// `profile_json` is as in the runtime spec (config-linux.md, "Seccomp"). Returns an array of struct sock_filter. System
// calls that this libseccomp does not know are skipped: they get the default action. The flags TSYNC, LOG and SPEC_ALLOW
// are accepted and do not change the program (TSYNC and SPEC_ALLOW have no effect: there is one thread, and the mitigation
// stays on). Other flags and SCMP_ACT_NOTIFY cannot be expressed in a program and are refused.
Result<std::string> compile_seccomp(std::string_view profile_json);

}  // namespace keelson
