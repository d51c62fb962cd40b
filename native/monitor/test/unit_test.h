// A minimal unit test framework: named tests, checks that report their location, a scratch directory.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace keelson::test {

struct Test {
  std::string_view name;
  void (*run)();
};

std::vector<Test> cgroup_tests();
std::vector<Test> child_tests();
std::vector<Test> connection_tests();
std::vector<Test> json_tests();
std::vector<Test> log_tests();
std::vector<Test> log_thread_tests();
std::vector<Test> loop_tests();
std::vector<Test> monitor_log_tests();
std::vector<Test> protocol_tests();
std::vector<Test> seccomp_filter_tests();
std::vector<Test> selinux_label_tests();
std::vector<Test> stdio_tests();

// If the values differ, prints the location and both values and exits.
void expect_equal(std::string_view actual, std::string_view wanted, const char* file, int line);
void expect_equal(long actual, long wanted, const char* file, int line);
void expect_true(bool truth, const char* condition, const char* file, int line);

// A temporary directory, removed if the test passes.
class Directory {
 public:
  Directory();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace keelson::test

#define EXPECT_EQUAL(actual, wanted) ::keelson::test::expect_equal((actual), (wanted), __FILE__, __LINE__)
#define EXPECT(condition) ::keelson::test::expect_true((condition), #condition, __FILE__, __LINE__)
