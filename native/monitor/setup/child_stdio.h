// What a child does with descriptors: its standard streams, or a terminal of its own, and the closing of all others.
#pragma once

#include <span>

#include "common/fd.h"
#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// The process's ends of its standard streams, closed in the monitor after the start.
// With a terminal all three are unused: the pty is made inside the container's
// own devpts and its master comes back in Started::sent.
struct Stdio {
  Fd in, out, err;
};

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

// Opens a pty on the devpts that is mounted on /dev/pts below `root`, sends the master
// to the monitor and returns the slave, which belongs to the process's user `uid`.
int open_terminal(const Child& child, int root, const CommandSpec& command, uid_t uid);

// Binds the slave on /dev/console.
void place_console(const Child& child, int root, int slave);

// Makes the slave streams 0, 1, 2.
void place_terminal(const Child& child, int slave);

// Makes stream 0 the controlling terminal of the session that the process leads.
void make_controlling(const Child& child);

}  // namespace keelson
