// The child: the code between clone and execve. It either continues or dies, and when it dies the monitor must learn at
// which step, on what object, and why. Also its descriptors: the standard streams or a terminal, and the closing of all
// others.
//
// It writes its failure report to a page shared with the monitor, because a seccomp filter may block any system call. A
// process of the container may write there too once it can see the child, so the report is validated, and used only as
// the reason why a start failed.
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

// Every step that can fail, with its name in error messages.
#define KEELSON_STEPS(step) \
  step(reset_signals, "reset signals")                                               \
  step(set_affinity, "allow every processor")                                        \
  step(join_cgroup, "join the cgroup")                                               \
  step(join_namespace, "join the namespace")                                         \
  step(spawn_process, "spawn the process")                                           \
  step(hide_memory, "hide the monitor's memory from the process")                    \
  step(place_stdio, "place the standard streams")                                    \
  step(close_descriptors, "close descriptors")                                       \
  step(start_session, "start a session")                                             \
  step(join_keyring, "join a session keyring")                                       \
  step(find_procfs, "find the PID namespace's procfs in")                            \
  step(enter_cgroup_namespace, "create the cgroup namespace")                        \
  step(set_oom_score, "set oom_score_adj")                                           \
  step(set_security_label, "set the security label")                                 \
  step(open_mount_source, "open the mount source")                                   \
  step(set_mount_options, "set the mount options of")                                \
  step(detach_propagation, "detach the mounts from the host's")                      \
  step(mount_root, "mount the root filesystem")                                      \
  step(make_mount_target, "create the mount target")                                 \
  step(refuse_mount_over_proc, "refuse to mount over procfs at")                     \
  step(refuse_mount_over_root, "refuse to mount over the container's root at")       \
  step(mount, "mount")                                                               \
  step(make_device, "create the device")                                             \
  step(open_terminal, "open the terminal")                                           \
  step(send_terminal, "send the terminal")                                           \
  step(place_console, "mount the console")                                           \
  step(make_working_directory, "create the working directory")                       \
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
  step(make_directory, "create the directory")                                       \
  step(open_linked_source, "refuse a symbolic link in the mount source")             \
  step(use_image_directory, "use the image's")                                       \
  step(check_proc, "check that a procfs is at")                                      \
  step(make_volume_writable, "keep writable")                                        \
  step(make_namespaces, "create the namespaces")                                     \
  step(set_limit, "set the limit of")

enum class Step : uint8_t {
#define KEELSON_NAME(name, words) name,
  KEELSON_STEPS(KEELSON_NAME)
#undef KEELSON_NAME
  count,
};

// Initially all zero.
struct Report {
  enum State : uint32_t { running, failed, settled };  // `settled`: done or ready without an execve
  uint32_t state;
  uint32_t step;
  int32_t error;     // errno
  char object[240];  // a path or name, truncated if longer
};

class Child {
 public:
  Child(Report& report, int socket) : report_(report), socket_(socket) {}

  // Reports the step with errno, and exits.
  [[noreturn]] void die(Step step, const char* object = "") const;
  [[noreturn]] void die(Step step, const char* object, int error) const;
  // Returns the result of a call if it succeeded (a non-negative number or a valid Fd), else dies at this step.
  template <std::integral T>
  T check(T result, Step step, const char* object = "") const {
    if (result < 0) [[unlikely]] die(step, object);
    return result;
  }
  Fd check(Fd opened, Step step, const char* object = "") const {
    if (!opened) [[unlikely]] die(step, object);
    return opened;
  }
  // Sends a descriptor, such as the pty's master, to the monitor.
  void send(int descriptor) const;
  // Reports success without an execve: the process has done its work, or continues to run as it is.
  void settle() const { report_.state = Report::settled; }
  Report& report() const { return report_; }
  // To the monitor, close-on-exec.
  int socket() const { return socket_; }

 private:
  Report& report_;
  int socket_;
};

// To be called first. Makes the process non-dumpable until its execve, so that nobody can read the monitor's memory
// (ptrace, /proc/<pid>/mem) or open its program through /proc/<pid>/exe. Resets blocked and ignored signals and the CPU
// affinity, which would survive the execve.
void leave_monitor(const Child& child);

// Receives the descriptor sent by Child::send. `size` is the result of recvmsg(2), with its errno; 0 at end of file.
Fd receive_descriptor(int socket, ssize_t& size);

// The report of a child as an Error, with the step's name and object. nullopt if it has not failed.
std::optional<Error> failure_in(const volatile Report& report);
bool is_settled(const volatile Report& report);

// The process's ends of its standard streams, closed in the monitor after the start.
// With a terminal all three are unused: the pty is created in the container's own devpts and its master is returned in
// Started::sent.
struct Stdio {
  Fd in, out, err;
};

// Puts the request's streams on 0, 1, 2. A placeholder occupies the number of a missing stream until
// open_missing_streams; a pipe is chowned to the process's user, so that it can reopen /dev/stdout.
void place_stdio(const Child& child, const Stdio& stdio, uid_t uid);

// Closes all descriptors from 3 on except the child's socket and `kept`, which must be in ascending order.
void close_descriptors(const Child& child, std::span<const int> kept = {});

// Closes all descriptors from 3 on, because processes of the container can see this one.
void close_all(const Child& child);

// Marks all descriptors from 3 on as close-on-exec, so that the command does not inherit any that a step has left open.
void close_on_exec(const Child& child);

// The /dev/null of the root the child is in, not the host's: a container's root user could change the mode of the
// host's node through its descriptor. ENODEV: it is not the null device.
Fd open_own_null();

// Opens it for the missing streams.
void open_missing_streams(const Child& child, const Stdio& stdio);

// Opens a pty on the devpts mounted on /dev/pts below `root`, sends the master to the monitor and returns the slave,
// chowned to the process's user `uid`.
Fd open_terminal(const Child& child, int root, const CommandSpec& command, uid_t uid);

// Bind mounts the slave on /dev/console.
void place_console(const Child& child, int root, int slave);

// Puts the slave on descriptors 0, 1, 2.
void place_terminal(const Child& child, Fd slave);

// Makes descriptor 0 the controlling terminal of the session that the process leads.
void make_controlling(const Child& child);

}  // namespace keelson
