// PAX extended headers (POSIX.1-2001 pax, "pax Extended Header"): the records that layers use.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "unpack/sparse.h"

namespace keelson {

// The maximum size of one header's text.
inline constexpr size_t max_pax_bytes = 1024 * 1024;
// The maximum size of all global records together: at most a path and a link target, copied for every entry.
inline constexpr size_t max_global_bytes = 16 * 1024;
// The maximum for one entry. The kernel lists at most 64 KiB of names for a file (XATTR_LIST_MAX).
inline constexpr size_t max_xattrs = 256;

struct Xattr {
  std::string name;
  std::string value;
};

struct PaxRecords {
  std::string path;  // empty if absent
  std::string link;
  std::optional<int64_t> size;
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::optional<timespec> mtime;
  std::vector<Xattr> xattrs;  // SCHILY.xattr.*, without that prefix
  std::optional<PaxSparse> sparse;

  // Records of `other` override those here.
  void override_with(const PaxRecords& other);
  // Approximate size in bytes, for a limit.
  size_t weight() const;
};

// Fails with kind `invalid` for a malformed record, with kind `limit` past max_xattrs. Ignores keys that do not affect
// unpacking (atime, comment …).
Result<PaxRecords> parse_pax(std::string_view text);

}  // namespace keelson
