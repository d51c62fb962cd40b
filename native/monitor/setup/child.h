// The child: what runs between clone and execve. It can only go on or die,
// and when it dies the monitor must learn at which step, on what, and why.
//
// It writes that into a page it shares with the monitor, for a seccomp filter may stand in the
// way of any call. A process of the container may write there too, once it sees the child:
// what is read is checked, and says no more than why a start failed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

// Every step that can fail; the words for it are in child.cc, in the same order.
enum class Step : uint8_t {
  reset_signals,
  join_cgroup,
  join_namespace,
  spawn_process,
  hide_memory,
  place_stdio,
  close_descriptors,
  start_session,
  join_keyring,
  find_procfs,
  enter_cgroup_namespace,
  set_oom_score,
  set_security_label,
  open_mount_source,
  set_mount_options,
  detach_propagation,
  mount_root,
  make_mount_target,
  refuse_mount_over_proc,
  mount,
  make_device,
  open_terminal,
  send_terminal,
  place_console,
  make_working_directory,
  mask_path,
  make_path_readonly,
  make_root_readonly,
  pivot_root,
  leave_host_root,
  set_propagation,
  open_null,
  change_directory,
  refuse_directory_outside,
  set_groups,
  set_user,
  set_capabilities,
  set_no_new_privileges,
  load_seccomp,
  execute,
  map_owners,
  find_in_image,
  make_directory,
  open_linked_source,
  use_image_directory,
  check_proc,
  make_volume_writable,
  make_namespaces,
  last = make_namespaces,
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
// through /proc/<pid>/exe, which execve resets; and no signal is blocked or ignored, which would survive it.
void leave_monitor(const Child& child);

// Takes what Child::send gave: one message, which the socket's end has none of. `size` is recvmsg(2)'s, errno too.
Fd receive_descriptor(int socket, ssize_t& size);

// The report of a child as an Error: step in words with its object. None when it has not failed.
std::optional<Error> failure_in(const volatile Report& report);
bool is_settled(const volatile Report& report);

}  // namespace keelson
