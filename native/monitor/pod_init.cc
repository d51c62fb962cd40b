// The pod's own PID 1. Sources: pid_namespaces(7), wait(2) (SA_NOCLDWAIT).
#include "pod_init.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "idmap.h"
#include "launch.h"
#include "mount_api.h"
#include "rootfs.h"
#include "signals.h"

namespace keelson {

namespace {

// The containers of the pod see this process and share its user: what they could reach
// through /proc/1 (root, descriptors, memory) must be nothing.
void isolate(const Child& child) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) child.die(Step::detach_propagation);
  int fs = fs_open("tmpfs");
  if (fs < 0 || fs_set(fs, "size", "4k") != 0) child.die(Step::mount_root);
  int root = fs_mount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  int target = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0 || target < 0 || attach_mount(root, target) != 0) child.die(Step::mount_root);
  pivot_to(child, root);
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) child.die(Step::set_capabilities);
  }
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) child.die(Step::set_capabilities);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) child.die(Step::set_no_new_privileges);
}

class PodInit final : public ChildProgram {
 public:
  explicit PodInit(int user_namespace) : user_namespace_(user_namespace) {}

  void enter(const Child& child) override {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) child.die(Step::reset_signals);
    reset_signals(child);
    if (user_namespace_ >= 0) enter_user_namespace(child, user_namespace_);
  }

  [[noreturn]] void run(const Child& child) override {
    if (setsid() < 0) child.die(Step::start_session);
    prctl(PR_SET_NAME, "keelson-init", 0, 0, 0);  // for ps; at worst it keeps the monitor's
    isolate(child);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) child.die(Step::reset_signals);
    // With SIGCHLD ignored the kernel reaps every orphan by itself.
    signal(SIGCHLD, SIG_IGN);
    child.ready();
    // The end of the report socket is here what execve is elsewhere.
    if (syscall(SYS_close_range, 0, UINT32_MAX, 0) != 0) _exit(1);
    for (;;) pause();
  }

 private:
  int user_namespace_;
};

}  // namespace

Result<pid_t> start_pod_init(int user_namespace) {
  PodInit init(user_namespace);
  LaunchOptions options;
  options.new_namespaces = CLONE_NEWPID | CLONE_NEWNS;
  // Namespaces belong to the user namespace that their maker is in.
  options.by_helper = user_namespace >= 0;
  Result<Started> started = launch(init, options);
  if (!started) return about(started.error(), "the pod's init");
  return started->pid;
}

}  // namespace keelson
