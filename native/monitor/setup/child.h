// The child: what runs between clone and execve. It can only go on or die,
// and when it dies the monitor must learn at which step, on what, and why.
// And what it does with descriptors: standard streams, or a terminal of its own, and the closing of all others.
//
// What it reports it writes into a page it shares with the monitor, for a seccomp filter may stand in the
// way of any call. A process of the container may write there too, once it sees the child:
// what is read is checked, and says no more than why a start failed.
#pragma once

#include <sys/types.h>

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "common/error.h"
#include "common/fd.h"
#include "monitor/setup/spec.h"

namespace keelson {

// Every step that can fail, with the words for it.
#define KEELSON_STEPS(step) \
  step(reset_signals, "reset signals")                                               \
  step(set_affinity, "allow every processor")                                        \
  step(join_cgroup, "join the cgroup")                                               \
  step(join_namespace, "join the namespace")                                         \
  step(spawn_process, "spawn the process")                                           \
  step(hide_memory, "keep the monitor's memory from the process")                    \
  step(place_stdio, "place the standard streams")                                    \
  step(close_descriptors, "close descriptors")                                       \
  step(start_session, "start a session")                                             \
  step(join_keyring, "join a session keyring")                                       \
  step(find_procfs, "find the PID namespace's procfs in")                            \
  step(enter_cgroup_namespace, "make the cgroup namespace")                          \
  step(set_oom_score, "set oom_score_adj")                                           \
  step(set_security_label, "set the security label")                                 \
  step(open_mount_source, "open the mount source")                                   \
  step(set_mount_options, "set the mount options of")                                \
  step(detach_propagation, "cut mounts off from the host's")                         \
  step(mount_root, "mount the root filesystem")                                      \
  step(make_mount_target, "make the mount target")                                   \
  step(refuse_mount_over_proc, "refuse to mount over procfs at")                     \
  step(refuse_mount_over_root, "refuse to mount over the container's root at")       \
  step(mount, "mount")                                                               \
  step(make_device, "make the device")                                               \
  step(open_terminal, "open the terminal")                                           \
  step(send_terminal, "send the terminal")                                           \
  step(place_console, "place the console")                                           \
  step(make_working_directory, "make the working directory")                         \
  step(mask_path, "mask")                                                            \
  step(make_path_readonly, "make read-only")                                         \
  step(make_root_readonly, "make the root filesystem read-only")                     \
  step(pivot_root, "change to the new root")                                         \
  step(leave_host_root, "leave the host's root")                                     \
  step(set_propagation, "set the propagation of the root")                           \
  step(open_null, "open the container's /dev/null")                                  \
  step(change_directory, "change to the working directory")                          \
  step(refuse_directory_outside, "refuse a working directory outside the container") \
  step(set_groups, "set the groups")                                                 \
  step(set_user, "set the user")                                                     \
  step(set_capabilities, "set the capabilities")                                     \
  step(set_no_new_privileges, "set no_new_privs")                                    \
  step(load_seccomp, "load the seccomp filter")                                      \
  step(execute, "execute")                                                           \
  step(map_owners, "map the owners of")                                              \
  step(find_in_image, "find in the image")                                           \
  step(make_directory, "make the directory")                                         \
  step(open_linked_source, "follow no link in the mount source")                     \
  step(use_image_directory, "use the image's")                                       \
  step(check_proc, "check that a procfs is at")                                      \
  step(make_volume_writable, "keep writable")                                        \
  step(make_namespaces, "make the namespaces")                                       \
  step(set_limit, "set the limit of")

enum class Step : uint8_t {
#define KEELSON_NAME(name, words) name,
  KEELSON_STEPS(KEELSON_NAME)
#undef KEELSON_NAME
  count,
};

// All zero at first.
struct Report {
  enum State : uint32_t { under_way, failed, settled };  // `settled`: done, or ready, without an execve
  uint32_t state;
  uint32_t step;
  int32_t error;     // errno
  char object[240];  // a path or name, cut when longer
};

class Child {
 public:
  Child(Report& report, int socket) : report_(report), socket_(socket) {}

  // Leaves what errno says about this step, and ends the process.
  [[noreturn]] void die(Step step, const char* object = "") const;
  [[noreturn]] void die(Step step, const char* object, int error) const;
  // What a call of this step gave, when it has succeeded: a number that is not negative, an Fd that is one.
  template <std::integral T>
  T check(T result, Step step, const char* object = "") const {
    if (result < 0) [[unlikely]] die(step, object);
    return result;
  }
  Fd check(Fd opened, Step step, const char* object = "") const {
    if (!opened) [[unlikely]] die(step, object);
    return opened;
  }
  // Gives the monitor a descriptor: the pty's master.
  void send(int descriptor) const;
  // Instead of an execve: the process has done what it is for, or lives on as it is.
  void settle() const { report_.state = Report::settled; }
  Report& report() const { return report_; }
  // To the monitor, close-on-exec.
  int socket() const { return socket_; }

 private:
  Report& report_;
  int socket_;
};

// First of all: the monitor's memory is nobody else's to read (ptrace, /proc/<pid>/mem), nor its program to be opened
// through /proc/<pid>/exe, which execve resets; no signal is blocked or ignored and no processor left out, which would
// survive it.
void leave_monitor(const Child& child);

// Takes what Child::send gave: one message, which the socket's end has none of. `size` is recvmsg(2)'s, errno too.
Fd receive_descriptor(int socket, ssize_t& size);

// The report of a child as an Error: step in words with its object. None when it has not failed.
std::optional<Error> failure_in(const volatile Report& report);
bool is_settled(const volatile Report& report);

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

// The /dev/null of the root the child is in. Not the host's: a container's root could change the mode of that one through
// its descriptor. ENODEV: it is something else.
Fd open_own_null();

// Gives it to the streams that are missing.
void open_missing_streams(const Child& child, const Stdio& stdio);

// Opens a pty on the devpts that is mounted on /dev/pts below `root`, sends the master
// to the monitor and returns the slave, which belongs to the process's user `uid`.
Fd open_terminal(const Child& child, int root, const CommandSpec& command, uid_t uid);

// Binds the slave on /dev/console.
void place_console(const Child& child, int root, int slave);

// Makes the slave streams 0, 1, 2.
void place_terminal(const Child& child, Fd slave);

// Makes stream 0 the controlling terminal of the session that the process leads.
void make_controlling(const Child& child);

}  // namespace keelson
