// The pod's own PID 1. Sources: pid_namespaces(7), wait(2) (SA_NOCLDWAIT).
#include "monitor/pod/sandbox_init.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "monitor/setup/mount_api.h"
#include "monitor/setup/namespaces.h"
#include "monitor/setup/rootfs.h"
#include "monitor/setup/spawn.h"

namespace keelson {

namespace {

// Puts a detached mount upon the root and lets go of all that was there.
void live_in(const Child& child, int root) {
  int target = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (target < 0 || attach_mount(root, target) != 0) child.die(Step::mount_root);
  pivot_to(child, root);
}

// The containers of the pod see this process and share its user: what they could reach
// through /proc/1 (root, descriptors, memory) must be nothing.
void isolate(const Child& child) {
  int fs = fs_open("tmpfs");
  if (fs < 0 || fs_set(fs, "size", "4k") != 0) child.die(Step::mount_root);
  int root = fs_mount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (root < 0) child.die(Step::mount_root);
  live_in(child, root);
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) child.die(Step::set_capabilities);
  }
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) child.die(Step::set_capabilities);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) child.die(Step::set_no_new_privileges);
}

// In the mount namespace it was cloned into: leaves there a procfs and nothing else, and gives it to the monitor.
void leave_procfs(const Child& child) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) child.die(Step::detach_propagation);
  int fs = fs_open("proc");
  int procfs = fs < 0 ? -1 : fs_mount(fs, 0);
  if (procfs < 0) child.die(Step::mount, "proc");
  live_in(child, procfs);
  int space = open("/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (space < 0) child.die(Step::find_procfs, "itself");
  child.send(space);
}

class SandboxInit final : public Procedure {
 public:
  explicit SandboxInit(int user_namespace) : user_namespace_(user_namespace) {}

  void enter(const Child& child) override {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) child.die(Step::reset_signals);
    reset_signals(child);
    if (user_namespace_ >= 0) enter_user_namespace(child, user_namespace_);
  }

  void set_up(const Child& child) override {
    if (setsid() < 0) child.die(Step::start_session);
    prctl(PR_SET_NAME, "keelson-init", 0, 0, 0);  // for ps; at worst it keeps the monitor's
    leave_procfs(child);
    if (unshare(CLONE_NEWNS) != 0) child.die(Step::make_namespaces);
    isolate(child);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) child.die(Step::reset_signals);
    // With SIGCHLD ignored the kernel reaps every orphan by itself.
    signal(SIGCHLD, SIG_IGN);
    child.settle();
    // The end of the report socket is here what execve is elsewhere.
    if (syscall(SYS_close_range, 0, UINT32_MAX, 0) != 0) _exit(1);
    for (;;) pause();
  }

  const LastSteps* last_steps() const override { return nullptr; }

 private:
  int user_namespace_;
};

}  // namespace

Result<PodInit> start_pod_init(Loop& loop, Reaper& reaper, int user_namespace) {
  SandboxInit init(user_namespace);
  SpawnOptions options;
  options.new_namespaces = CLONE_NEWPID | CLONE_NEWNS;
  // Namespaces belong to the user namespace that their maker is in.
  if (user_namespace >= 0) options.way = SpawnWay::helper_then_new_namespaces;
  Result<Started> started = spawn_and_wait(loop, reaper, init, std::move(options));
  if (!started) return about(started.error(), "the pod's init");
  return PodInit{started->pid, std::move(started->sent)};
}

}  // namespace keelson
