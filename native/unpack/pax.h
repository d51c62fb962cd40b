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

// One header's text may not be larger.
inline constexpr size_t max_pax_bytes = 1024 * 1024;
// What all global headers say together: a path and a link's target at most, copied for every entry.
inline constexpr size_t max_global_bytes = 16 * 1024;
// Of one entry. The kernel lists 64 KiB of names for a file at most (XATTR_LIST_MAX).
inline constexpr size_t max_xattrs = 256;

struct Xattr {
  std::string name;
  std::string value;
};

struct PaxRecords {
  std::string path;  // empty: not said
  std::string link;
  std::optional<int64_t> size;
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::optional<timespec> mtime;
  std::vector<Xattr> xattrs;  // SCHILY.xattr.*, without that prefix
  std::optional<PaxSparse> sparse;

  // What `other` says wins over what stands here.
  void override_with(const PaxRecords& other);
  // Bytes held, near enough for a bound.
  size_t weight() const;
};

// Fails with kind `invalid` for a malformed record, with kind `limit` past max_xattrs. Keys that do not change what is unpacked (atime, comment …) are ignored.
Result<PaxRecords> parse_pax(std::string_view text);

}  // namespace keelson
