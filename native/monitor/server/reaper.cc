#include "monitor/server/reaper.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr size_t max_unclaimed = 256;

}  // namespace

Reaper::FutureChild::FutureChild(Reaper& reaper, const volatile pid_t& pid, Handler handler)
    : reaper_(reaper), pid_(pid), handler_(std::move(handler)), place_(reaper.future_.insert(reaper.future_.end(), this)) {}

Reaper::FutureChild::~FutureChild() { reaper_.future_.erase(place_); }

Status Reaper::open() {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, child_exit_signal);
  if (sigprocmask(SIG_BLOCK, &mask, nullptr) != 0) return fail_errno("block the signals of children");
  signals_ = Fd(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_errno("create a signalfd");
  watch_ = TRY(loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) {
    signalfd_siginfo pending;  // standard signals do not queue: at most two reads
    while (read(signals_.get(), &pending, sizeof pending) > 0) {
    }
    while (reap_one(0, true) || reap_one(__WCLONE, false)) {
    }
  }));
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

std::shared_ptr<void> Reaper::hold() {
  std::shared_ptr<void> held = holds_.lock();
  if (!held) held = std::shared_ptr<void>(this, [this](void*) { unclaimed_.clear(); });
  holds_ = held;
  return held;
}

bool Reaper::reap_one(int kind, bool executed) {
  siginfo_t info{};
  if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | kind) != 0 || info.si_pid == 0) return false;
  bool by_signal = info.si_code != CLD_EXITED;
  ProcessExit exit{by_signal ? 128 + info.si_status : info.si_status, by_signal ? info.si_status : 0, now_ns(), executed};
  if (auto found = expected_.find(info.si_pid); found != expected_.end()) {
    Handler handler = std::move(found->second);
    expected_.erase(found);
    handler(exit);
    return true;
  }
  for (FutureChild* child : future_) {
    if (child->pid_ != info.si_pid || !child->handler_) continue;
    std::exchange(child->handler_, nullptr)(exit);
    return true;
  }
  if (!holds_.expired() && unclaimed_.size() < max_unclaimed) unclaimed_[info.si_pid] = exit;
  return true;
}

}  // namespace keelson
