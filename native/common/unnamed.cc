#include "common/unnamed.h"

#include <sys/xattr.h>

#include <cerrno>

namespace keelson {

namespace {

// Only a container with CAP_SYS_ADMIN on the host sees trusted.*. overlayfs copies the attribute up with the directory.
constexpr const char* attribute = "trusted.keelson.unnamed";
constexpr const char* way = "n";
constexpr const char* unnamed = "y";

// A file system without attributes has no marks.
Status set_mark(int directory, const char* value, int flags, int expected) {
  if (::fsetxattr(directory, attribute, value, 1, flags) == 0) return {};
  if (errno == expected || errno == EOPNOTSUPP) return {};
  return fail_errno("mark the directory");
}

}  // namespace

Mark mark_of(int directory) {
  char value = 0;
  if (::fgetxattr(directory, attribute, &value, sizeof value) != sizeof value) return Mark::none;
  return value == *unnamed ? Mark::unnamed : Mark::way;
}

Status mark_way(int directory) { return set_mark(directory, way, XATTR_CREATE, EEXIST); }

Status mark_unnamed(int directory) { return set_mark(directory, unnamed, 0, 0); }

Status mark_named(int directory) { return set_mark(directory, way, XATTR_REPLACE, ENODATA); }

}  // namespace keelson
