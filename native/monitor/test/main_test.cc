// Runs every unit test, or those whose name contains the first argument.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

[[noreturn]] void fail_at(const char* file, int line, const std::string& what) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  exit(1);
}

}  // namespace

void expect_equal(std::string_view actual, std::string_view wanted, const char* file, int line) {
  if (actual == wanted) return;
  fail_at(file, line, "got \"" + std::string(actual) + "\"\n  wanted \"" + std::string(wanted) + "\"");
}

void expect_equal(long actual, long wanted, const char* file, int line) {
  if (actual != wanted) fail_at(file, line, "got " + std::to_string(actual) + ", wanted " + std::to_string(wanted));
}

void expect_true(bool truth, const char* condition, const char* file, int line) {
  if (!truth) fail_at(file, line, std::string("not true: ") + condition);
}

Directory::Directory() {
  char name[] = "/tmp/keelson-unit-XXXXXX";
  if (mkdtemp(name) == nullptr) fail_at(__FILE__, __LINE__, "no temporary directory");
  path_ = name;
}

Directory::~Directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace keelson::test

int main(int argc, char** argv) {
  using namespace keelson::test;
  std::string_view wanted = argc > 1 ? argv[1] : "";
  for (const auto& tests : {cgroup_tests(), child_tests(), connection_tests(), json_tests(), log_tests(), log_thread_tests(),
                            loop_tests(), monitor_log_tests(), protocol_tests(), seccomp_filter_tests(),
                            selinux_label_tests(), stdio_tests()}) {
    for (const Test& test : tests) {
      if (test.name.find(wanted) == test.name.npos) continue;
      printf("%s\n", std::string(test.name).c_str());
      fflush(stdout);
      test.run();
    }
  }
  return 0;
}
