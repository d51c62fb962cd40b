// Creates directories and files in one call, one after another. Node takes three or four thread pool tasks for each file,
// with a turn of the event loop between them.
#pragma once

#include <sys/types.h>

#include <string>
#include <variant>
#include <vector>

#include "common/error.h"

namespace keelson {

struct Owner {
  uid_t uid = 0;
  gid_t gid = 0;
};

struct MakeDirectory {
  std::string path;
  mode_t mode = 0755;
  bool may_exist = false;
};

// With the mode of the directory `like`. Its owner's ids are added to those in `owner`.
struct MakeDirectoryLike {
  std::string path;
  std::string like;
  Owner owner;
};

// The file is created, or truncated if it exists.
struct WriteFile {
  std::string path;
  std::string content;
  mode_t mode = 0644;
  bool is_mode_exact = false;  // ignores the umask, and changes the mode of an existing file too
  bool is_new = false;  // fails if the file exists
  bool is_added = false;  // appends to an existing file
  bool is_flushed = false;
  Owner owner;  // 0 and 0: not changed
};

struct RenameFile {
  std::string path;
  std::string to;
};

// A missing file is not an error.
struct RemoveFile {
  std::string path;
};

// fsync(2) of a file or a directory, so that its content survives a power failure.
struct Flush {
  std::string path;
};

using FileStep = std::variant<MakeDirectory, MakeDirectoryLike, WriteFile, RenameFile, RemoveFile, Flush>;

// Stops at the first step that fails; its path is the error's object. Earlier steps are not undone.
Status change_files(const std::vector<FileStep>& steps);

}  // namespace keelson
