// Making directories and files, one after another in one call: what Node does with three or four tasks of its thread
// pool for each file, between which the event loop has to come round.
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

// With the mode of the directory `like`, and its owner's ids on top of `owner`'s.
struct MakeDirectoryLike {
  std::string path;
  std::string like;
  Owner owner;
};

// Made or emptied first.
struct WriteFile {
  std::string path;
  std::string content;
  mode_t mode = 0644;
  bool is_mode_exact = false;  // whatever the umask says, and of a file that is there already
  bool is_new = false;  // nothing may be there
  bool is_added = false;  // to the end of a file that is there
  bool is_flushed = false;
  Owner owner;  // 0 leaves it
};

struct RenameFile {
  std::string path;
  std::string to;
};

// Missing is fine.
struct RemoveFile {
  std::string path;
};

// A file, or a directory: what is in it survives a power cut.
struct Flush {
  std::string path;
};

using FileStep = std::variant<MakeDirectory, MakeDirectoryLike, WriteFile, RenameFile, RemoveFile, Flush>;

// Up to the first that fails, whose path is the error's object. What was made before stays.
Status change_files(const std::vector<FileStep>& steps);

}  // namespace keelson
