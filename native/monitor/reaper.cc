#include "reaper.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <csignal>

#include "clock.h"

namespace keelson {

namespace {

constexpr size_t max_unclaimed = 256;

}  // namespace

Reaper::Hold::~Hold() {
  if (reaper_ != nullptr && --reaper_->holds_ == 0) reaper_->unclaimed_.clear();
}

Status Reaper::open() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &mask, nullptr) != 0) return fail_errno("block SIGCHLD");
  signals_ = Fd(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_errno("make a signalfd");
  auto watch = loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) {
    signalfd_siginfo pending;  // SIGCHLD does not queue: one read takes what there is
    while (read(signals_.get(), &pending, sizeof pending) > 0) {
    }
    reap();
  });
  if (!watch) return std::unexpected(watch.error());
  watch_ = std::move(*watch);
  return {};
}

void Reaper::expect(pid_t pid, Handler handler) {
  if (auto found = unclaimed_.find(pid); found != unclaimed_.end()) {
    loop_.defer([exit = found->second, call = std::move(handler)]() mutable { call(exit); });
    unclaimed_.erase(found);
    return;
  }
  expected_.insert_or_assign(pid, std::move(handler));
}

void Reaper::reap() {
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) return;
    bool by_signal = info.si_code != CLD_EXITED;
    ProcessExit exit{by_signal ? 128 + info.si_status : info.si_status, by_signal ? info.si_status : 0, now_ns()};
    if (auto found = expected_.find(info.si_pid); found != expected_.end()) {
      Handler handler = std::move(found->second);
      expected_.erase(found);
      handler(exit);
    } else if (holds_ > 0 && unclaimed_.size() < max_unclaimed) {
      unclaimed_[info.si_pid] = exit;
    }
  }
}

}  // namespace keelson
