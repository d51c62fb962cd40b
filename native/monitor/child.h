// The child's side of a start: between clone and execve it can only go on or die,
// and when it dies the monitor must learn at which step, on what, and why.
//
// Messages are fixed structs over a SOCK_SEQPACKET pair that closes on exec: the
// end of file behind `ready` is the news that execve succeeded.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "../common/error.h"

namespace keelson {

// Every step that can fail; the words for it are in child.cc, in the same order.
enum class Step : uint8_t {
  reset_signals,
  join_cgroup,
  join_namespace,
  bear_process,
  place_stdio,
  close_descriptors,
  start_session,
  join_keyring,
  enter_cgroup_namespace,
  set_hostname,
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
  set_sysctl,
  pivot_root,
  leave_host_root,
  set_propagation,
  set_rlimit,
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
  check_proc,
  make_volume_writable,
};

struct ChildMessage {
  enum class Kind : uint8_t { failed, terminal, ready };  // `terminal` carries a descriptor
  Kind kind;
  Step step;
  int32_t error;
  char object[240];  // a path or name, cut when longer
};

class Child {
 public:
  explicit Child(int socket) : socket_(socket) {}

  // Tells the monitor what errno says about this step, and ends the process.
  [[noreturn]] void die(Step step, const char* object = "") const;
  [[noreturn]] void die(Step step, const char* object, int error) const;
  void send_terminal(int master) const;
  // To be said right before execve: an end of file without it is a death.
  void ready() const;
  int socket() const { return socket_; }

 private:
  int socket_;
};

// The message as an Error: step in words with its object.
Error to_error(const ChildMessage& message);

}  // namespace keelson
