// Helpers that the addon's tests share: assertions that report file and line, and functions to create and check files. Also
// the tests themselves, by subject; each gets its own directory, which it need not clean up.
#pragma once

#include <string>

#include "common/error.h"

namespace keelson {

void claim(bool holds, const char* what, const char* file, int line);
#define CLAIM(condition) claim((condition), #condition, __FILE__, __LINE__)

template <typename T>
void claim_ok(const Result<T>& result, const char* file, int line) {
  claim(result.has_value(), result ? "" : result.error().message().c_str(), file, line);
}
#define CLAIM_OK(result) claim_ok((result), __FILE__, __LINE__)

void write_file(const std::string& path, const std::string& content);
void make_directory(const std::string& path);
bool exists(const std::string& path);
int open_descriptors();  // of this process

void test_trees(const std::string& base);
void test_relabel(const std::string& base);
void test_layers(const std::string& base);
void test_files(const std::string& base);
void test_kernel(const std::string& base);
void test_service_manager(const std::string& base);

}  // namespace keelson
