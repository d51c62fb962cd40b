#include "cni/netlink/background.h"

#include <time.h>
#include <unistd.h>

namespace keelson {

namespace {

constexpr timespec later{0, 200'000'000};

}  // namespace

Status run_in_background(const std::function<void()>& work) {
  pid_t child = fork();
  if (child < 0) return fail_errno("fork");
  if (child > 0) return {};
  for (int stdio : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(stdio);
  setsid();
  work();
  _exit(0);
}

void close_later(NetlinkSocket netlink) {
  // If there can be no child, it is closed here, with the wait.
  (void)run_in_background([&] {
    // Closes everything else, above all a pod's namespace.
    constexpr int kept = STDERR_FILENO + 1;
    dup2(netlink.descriptor(), kept);
    close_range(kept + 1, ~0U, 0);
    nanosleep(&later, nullptr);
  });
}

}  // namespace keelson
