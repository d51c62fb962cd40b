// The file of a log: the operations that can block on its file system, each without allocating memory.
//
// They run on the log thread (log_writer.h). The loop clones processes meanwhile, and a lock of malloc's that another
// thread holds at that moment would stay locked in the new process.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

class LogFile {
 public:
  enum class Step { open_root, make_directory, open_directory, open_file, stat_file };
  struct Failure {
    Step step;
    size_t end;  // of the path's part that it is about
    int error;   // errno; 0 for a file of the wrong type
  };
  struct Appended {
    size_t lost = 0;  // bytes
    int error = 0;    // errno, why they are
  };

  // `path` must be absolute and name a file; nothing is opened yet.
  static Result<std::shared_ptr<LogFile>> at(std::string path);
  explicit LogFile(std::string path);

  // Opens the path: a regular file, created with mode 0640 if it is missing, and its directories with 0755. No symbolic
  // link is followed anywhere in it. After a failure a file that was open before stays in use.
  std::optional<Failure> open();
  // Whole records. When the disk refuses, the file still ends with a whole record.
  Appended append(std::string_view batch);
  void close() { file_.reset(); }

  const std::string& path() const { return path_; }
  Error explain(const Failure& failure) const;

 private:
  std::string path_;
  std::string names_;  // the path with a NUL in place of each slash
  Fd file_;
};

}  // namespace keelson
