#include "monitor/setup/last_steps.h"

#include <link.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

namespace keelson {

namespace {

// For code that runs without libc's thread-local storage and stack guard: disables the checks that would access that
// missing memory.
#define KEELSON_BARE __attribute__((no_stack_protector, no_sanitize("address", "undefined")))

// A system call without libc: returns the result or -errno.
KEELSON_BARE inline __attribute__((always_inline)) long raw_syscall(long number, long a = 0, long b = 0, long c = 0) {
#if defined(__x86_64__)
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
#error "raw_syscall is not implemented for this architecture"
#endif
}

constexpr size_t stack_size = 16 << 10;
constexpr size_t alignment = 16;
constexpr uintptr_t end_of_addresses = uintptr_t{1} << 52;  // above what any user space has

// At the start of the mapping, followed by what it points to and by the stack.
struct Layout {
  Report* report;
  char** argv;
  char** envp;
  char** candidates;  // ends in a null pointer
  char* home;  // the value of HOME in `envp`; null if it is not set here
  sock_fprog filter;  // length 0: none to load
  uint32_t filter_flags;
  bool session;
  bool terminal;
};

constexpr std::string_view home_name = "HOME=";

size_t aligned(size_t size) { return (size + alignment - 1) & ~(alignment - 1); }

size_t size_of(const std::vector<std::string>& texts) {
  size_t size = (texts.size() + 1) * sizeof(char*);
  for (const std::string& text : texts) size += text.size() + 1;
  return aligned(size);
}

// Allocates pieces of the mapping one after the other.
class Room {
 public:
  explicit Room(char* at) : at_(at) {}

  char* take(size_t size) { return std::exchange(at_, at_ + aligned(size)); }

  char** take_texts(const std::vector<std::string>& texts) {
    char* room = take(size_of(texts));
    char** pointers = reinterpret_cast<char**>(room);
    char* text = room + (texts.size() + 1) * sizeof(char*);
    for (size_t at = 0; at < texts.size(); ++at) {
      pointers[at] = text;
      memcpy(text, texts[at].c_str(), texts[at].size() + 1);
      text += texts[at].size() + 1;
    }
    pointers[texts.size()] = nullptr;
    return pointers;
  }

 private:
  char* at_;
};

KEELSON_BARE [[noreturn]] void fail_bare(Report* report, Step step, long result) {
  report->step = static_cast<uint32_t>(step);
  report->error = static_cast<int32_t>(-result);
  *static_cast<volatile uint32_t*>(&report->state) = Report::failed;
  for (;;) raw_syscall(SYS_exit_group, 1);
}

KEELSON_BARE int run_bare(void* memory) {
  const Layout* steps = static_cast<const Layout*>(memory);
  Report* report = steps->report;
  if (steps->session) {
    const long made = raw_syscall(SYS_setsid);
    if (made < 0) fail_bare(report, Step::start_session, made);
  }
  if (steps->terminal) {
    const long taken = raw_syscall(SYS_ioctl, 0, TIOCSCTTY, 0);
    if (taken < 0) fail_bare(report, Step::open_terminal, taken);
  }
  if (steps->filter.len != 0) {
    const long loaded = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, steps->filter_flags,
                                    reinterpret_cast<long>(&steps->filter));
    if (loaded < 0) fail_bare(report, Step::load_seccomp, loaded);
  }
  long error = -ENOENT;
  for (char** candidate = steps->candidates; *candidate != nullptr; ++candidate) {
    const long result = raw_syscall(SYS_execve, reinterpret_cast<long>(*candidate),
                                    reinterpret_cast<long>(steps->argv), reinterpret_cast<long>(steps->envp));
    if (result == -ENOENT || result == -ENOTDIR) continue;
    // As a shell does: continue the search, but remember that a file exists.
    error = result;
    if (error != -EACCES) break;
  }
  fail_bare(report, Step::execute, error);
}

struct Range {
  uintptr_t begin, end;
};

// The parts of the program that the process needs: code and constants, including those of libraries (in an instrumented
// build, clone(2) returns into one).
class Kept {
 public:
  void add(uintptr_t begin, uintptr_t size) {
    if (count_ == ranges_.size()) return;
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    ranges_[count_++] = {begin & ~(page - 1), (begin + size + page - 1) & ~(page - 1)};
  }

  std::span<Range> sorted() {
    std::sort(ranges_.begin(), ranges_.begin() + count_, [](const Range& a, const Range& b) { return a.begin < b.begin; });
    return {ranges_.data(), count_};
  }

 private:
  std::array<Range, 96> ranges_;
  size_t count_ = 0;
};

// Skips the kernel's own object (vdso(7)): none of it is called here, and its mapping, which may be longer than its
// segment (Linux 6.1), cannot be marked partially.
int keep_constants(dl_phdr_info* object, size_t, void* kept) {
  if (object->dlpi_addr != 0 && object->dlpi_addr == getauxval(AT_SYSINFO_EHDR)) return 0;
  for (int at = 0; at < object->dlpi_phnum; ++at) {
    const auto& segment = object->dlpi_phdr[at];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    static_cast<Kept*>(kept)->add(object->dlpi_addr + segment.p_vaddr, segment.p_memsz);
  }
  return 0;
}

// The kernel writes to the area that libc has registered for restartable sequences, in the thread-local storage, and a
// process is killed if that area is not mapped (rseq(2)). The length must be the registered one, which libc rounds up.
void leave_restartable_sequences(const Child& child) {
  if (__rseq_size == 0) return;
  char* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  constexpr unsigned smallest = 32;
  const long left = syscall(SYS_rseq, area, std::max(__rseq_size, smallest), RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
  child.check(left, Step::hide_memory, "rseq");
}

}  // namespace

std::string room_for_home() { return std::string(home_name).append(max_home, '\0'); }

Result<LastSteps> LastSteps::lay_out(const LastStepsPlan& plan) {
  const size_t filter_size = plan.filter == nullptr ? 0 : plan.filter->program().size() * sizeof(sock_filter);
  LastSteps steps;
  steps.size_ = aligned(sizeof(Layout)) + size_of(plan.args) + size_of(plan.env) + size_of(plan.candidates) +
                aligned(filter_size) + stack_size;
  void* base = mmap(nullptr, steps.size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return fail_errno("map memory for the command");
  steps.base_ = static_cast<char*>(base);
  Room room(steps.base_);
  Layout* layout = new (room.take(sizeof(Layout))) Layout{};
  layout->argv = room.take_texts(plan.args);
  layout->envp = room.take_texts(plan.env);
  if (plan.finds_home) layout->home = layout->envp[plan.env.size() - 1] + home_name.size();
  layout->candidates = room.take_texts(plan.candidates);
  if (filter_size != 0) {
    layout->filter.filter = reinterpret_cast<sock_filter*>(room.take(filter_size));
    layout->filter.len = static_cast<unsigned short>(plan.filter->program().size());
    memcpy(layout->filter.filter, plan.filter->program().data(), filter_size);
    layout->filter_flags = plan.filter->flags();
  }
  layout->session = plan.session;
  layout->terminal = plan.terminal;
  return steps;
}

LastSteps::LastSteps(LastSteps&& other) noexcept : base_(std::exchange(other.base_, nullptr)), size_(other.size_) {}

LastSteps::~LastSteps() {
  if (base_ != nullptr) munmap(base_, size_);
}

void LastSteps::set_home(const char (&home)[max_home]) const { strcpy(reinterpret_cast<Layout*>(base_)->home, home); }

void LastSteps::take(const Child& child) const {
  reinterpret_cast<Layout*>(base_)->report = &child.report();
  run_bare(base_);
  __builtin_unreachable();
}

void LastSteps::hide_memory(const Child& child) const {
  leave_restartable_sequences(child);
  Kept kept;
  dl_iterate_phdr(keep_constants, &kept);
  kept.add(reinterpret_cast<uintptr_t>(base_), size_);
  kept.add(reinterpret_cast<uintptr_t>(&child.report()), sizeof(Report));
  uintptr_t at = 0;
  auto hide_up_to = [&](uintptr_t end) {
    if (at >= end) return;
    // ENOMEM: the range has unmapped holes, which is expected; what is mapped has been marked.
    if (madvise(reinterpret_cast<void*>(at), end - at, MADV_DONTFORK) != 0 && errno != ENOMEM) child.die(Step::hide_memory);
  };
  for (const Range& range : kept.sorted()) {
    hide_up_to(range.begin);
    at = std::max(at, range.end);
  }
  hide_up_to(end_of_addresses);
}

void LastSteps::spawn(const Child& child, pid_t* pid) const {
  reinterpret_cast<Layout*>(base_)->report = &child.report();
  char* stack = base_ + (size_ & ~(alignment - 1));
  child.check(clone(run_bare, stack, static_cast<int>(spawn_flags), base_, pid), Step::spawn_process);
  _exit(0);
}

}  // namespace keelson
