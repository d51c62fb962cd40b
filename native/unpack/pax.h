// PAX extended headers (POSIX.1-2001 pax, "pax Extended Header"): the records that layers use.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace keelson {

// One header's text, and all global headers together, may not be larger.
inline constexpr size_t max_pax_bytes = 1024 * 1024;

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

  // What `other` says wins over what stands here.
  void override_with(const PaxRecords& other);
  // Bytes held, near enough for a bound.
  size_t weight() const;
};

// Fails with kind `invalid` for a malformed record, and for sparse files (GNU.sparse.*), which are
// not supported. Keys that do not change what is unpacked (atime, comment …) are ignored.
Result<PaxRecords> parse_pax(std::string_view text);

}  // namespace keelson
