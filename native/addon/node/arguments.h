// Reads the arguments of a call from JavaScript, one after another.
#pragma once

#include <napi.h>
#include <sys/types.h>

#include <string>
#include <type_traits>
#include <vector>

#include "addon/change_files.h"

namespace keelson {

// The first wrong argument throws a TypeError, and `ok` is false.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  std::string text();
  std::string path();
  std::vector<std::string> paths();
  std::vector<std::string> words();
  std::vector<pid_t> pids();
  std::vector<FileStep> file_steps();
  uint64_t size();
  uint64_t count();

  bool ok() const { return ok_; }
  // The object of errors: the first path.
  const std::string& object() const { return object_; }

 private:
  void wrong(const char* wanted);
  const std::string& about(const std::string& path);

  template <typename Read>
  std::vector<std::invoke_result_t<Read, Napi::Value>> list(const char* wanted, Read read);

  FileStep as_file_step(Napi::Value value);
  std::string as_bytes(Napi::Value value);
  std::string as_text(Napi::Value value);
  std::string as_path(Napi::Value value);

  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  bool ok_ = true;
  std::string object_;
};

}  // namespace keelson
