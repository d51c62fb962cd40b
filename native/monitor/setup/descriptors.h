// What a child does with the descriptors it was born with.
#pragma once

#include <span>

#include "monitor/setup/child.h"
#include "monitor/setup/process.h"

namespace keelson {

// Puts the request's streams on 0, 1, 2. A stream that is not there is held
// by a stopgap until open_missing_streams; a pipe is given to the process's user, so that it
// can open /dev/stdout again.
void place_stdio(const Child& child, const Stdio& stdio, uid_t uid);

// Closes all from 3 on but the child's socket and `kept`, which are in ascending order.
void close_descriptors(const Child& child, std::span<const int> kept = {});

// Closes all from 3 on: others will look at them.
void close_all(const Child& child);

// Marks all from 3 on as close-on-exec: whatever a step forgot, the command does not get it.
void close_on_exec(const Child& child);

// Gives the container's own /dev/null to the streams that are missing. Not the
// host's: a container's root could change the mode of that one through its descriptor.
void open_missing_streams(const Child& child, const Stdio& stdio);

}  // namespace keelson
