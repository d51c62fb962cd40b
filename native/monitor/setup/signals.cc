// Resetting the signal mask and dispositions in a child. Source: signal(7).
#include "monitor/setup/signals.h"

#include <signal.h>

namespace keelson {

void reset_signals(const Child& child) {
  for (int number = 1; number < NSIG; ++number) {
    // SIGKILL, SIGSTOP and the two that libc keeps for itself refuse, and need it not.
    signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, nullptr) != 0) child.die(Step::reset_signals);
}

}  // namespace keelson
