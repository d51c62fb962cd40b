// Pinned namespaces, sealed copies, seccomp programs, the bounding set, a shortage of threads.

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "addon/kernel.h"
#include "addon/layers.h"
#include "addon/mount_namespace.h"
#include "addon/network.h"
#include "addon/seccomp.h"
#include "addon/test/claims.h"
#include "common/own_program.h"

namespace keelson {

namespace {

const char constant[] = "a constant of the program";

void a_program_goes_on_when_its_pages_are_let_go() {
  static int counter = 7;
  ++counter;
  drop_program_pages();
  CLAIM(std::string(constant) == "a constant of the program");
  CLAIM(counter == 8);
}

// A pin keeps a namespace alive after its last process, and a file that is not a namespace is recognized as such.
void a_pin_keeps_a_network_namespace(const std::string& base) {
  int ready[2];
  CLAIM(::pipe2(ready, O_CLOEXEC) == 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const bool entered = ::unshare(CLONE_NEWNET) == 0 && ::write(ready[1], "x", 1) == 1;
    if (entered) ::pause();
    ::_exit(1);
  }
  char word = 0;
  CLAIM(holder > 0 && ::read(ready[0], &word, 1) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
  const std::string pin = base + "/pin";
  const int before = open_descriptors();
  CLAIM_OK(pin_namespace("/proc/" + std::to_string(holder) + "/ns/net", pin));
  ::kill(holder, SIGKILL);
  CLAIM(::waitpid(holder, nullptr, 0) == holder);

  CLAIM(has_interface(pin, "lo").value_or(false));
  CLAIM(!has_interface(pin, "eth0").value_or(true));
  auto is_missing = [](const Result<bool>& found) { return !found && found.error().kind == Kind::not_found; };
  CLAIM_OK(unmount(pin));
  CLAIM(is_missing(has_interface(pin, "lo")));
  CLAIM(is_missing(has_interface(base + "/never-there", "lo")));
  CLAIM(!pin_namespace(pin, base + "/other") && !exists(base + "/other"));
  CLAIM(open_descriptors() == before);
}

void a_sealed_copy_cannot_change(const std::string& base) {
  Result<Fd> copy = sealed_copy("/bin/true");
  CLAIM_OK(copy);
  CLAIM(::write(copy->get(), "x", 1) < 0 && errno == EPERM);
  CLAIM(::ftruncate(copy->get(), 0) < 0 && errno == EPERM);
  CLAIM(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, copy->get(), 0) == MAP_FAILED);
  CLAIM((::fcntl(copy->get(), F_GETFD) & FD_CLOEXEC) != 0);
  pid_t child = ::fork();
  if (child == 0) {
    std::string path = "/proc/self/fd/" + std::to_string(copy->get());
    ::execl(path.c_str(), "true", nullptr);
    ::_exit(99);
  }
  int status = 0;
  CLAIM(::waitpid(child, &status, 0) == child && status == 0);
  CLAIM(!sealed_copy(base) && !sealed_copy("/dev/zero") && !sealed_copy(base + "/none"));
}

void profiles_are_checked() {
  Result<std::string> program = compile_seccomp(
      R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
          "flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"],"syscalls":[
          {"names":["mkdir","no_such_call","arch_prctl"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
          {"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[
            {"index":0,"value":38,"op":"SCMP_CMP_EQ"},{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]})");
  CLAIM_OK(program);
  CLAIM(!program->empty() && program->size() % sizeof(sock_filter) == 0);
  for (const char* wrong : {
           "", "[]", "{", "{}", R"({"defaultAction":"SCMP_ACT_NOTIFY"})",
           R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":[7]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_DANCE"}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":1,"value":1,"op":"SCMP_CMP_ABOUT"}]}]})",
           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRAP",
               "args":[{"index":1,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]})",
       }) {
    Result<std::string> refused = compile_seccomp(wrong);
    CLAIM(!refused && refused.error().kind == Kind::invalid);
  }
}

// As when pods have used up all process ids of a node: everything that needs a thread fails, and the process survives.
void a_shortage_of_threads_is_told(const std::string& base) {
  Result<std::string> program = compile_seccomp(
      R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
          {"names":["clone","clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":11}]})");
  CLAIM_OK(program);
  const std::vector<std::string> layers = {base + "/an-upper-layer", base + "/a-lower-layer"};
  for (const std::string& layer : layers) make_directory(layer);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto size = static_cast<unsigned short>(program->size() / sizeof(sock_filter));
    sock_fprog filter = {size, reinterpret_cast<sock_filter*>(program->data())};
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) ::_exit(2);
    auto is_told = [](const auto& result) { return !result && result.error().error_number == EAGAIN; };
    const bool all = is_told(open_layers(layers, LayerOption::page)) && is_told(empty_mount_namespace()) &&
                     is_told(has_interface("/proc/self/ns/net", "lo"));
    ::_exit(all ? 0 : 1);
  }
  int status = 0;
  CLAIM(::waitpid(child, &status, 0) == child && status == 0);
}

}  // namespace

void test_kernel(const std::string& base) {
  a_program_goes_on_when_its_pages_are_let_go();
  a_pin_keeps_a_network_namespace(base);
  a_sealed_copy_cannot_change(base);
  profiles_are_checked();
  a_shortage_of_threads_is_told(base);
  CLAIM(bounding_capabilities() != 0);
}

}  // namespace keelson
