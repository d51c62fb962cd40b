// The container's terminal: a pty of its own devpts, whose master goes to the monitor.
#pragma once

#include "monitor/setup/child.h"
#include "monitor/setup/spec.h"

namespace keelson {

// Opens a pty on the devpts that is mounted on /dev/pts below `root`, sends the master
// to the monitor and returns the slave, which belongs to the process's user.
int open_terminal(const Child& child, int root, const ProcessSpec& process);

// Binds the slave on /dev/console.
void place_console(const Child& child, int root, int slave);

// Makes the slave streams 0, 1, 2.
void place_terminal(const Child& child, int slave);

// Makes stream 0 the controlling terminal of the session that the process leads.
void make_controlling(const Child& child);

}  // namespace keelson
