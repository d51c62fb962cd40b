// Whiteouts as layers carry them (OCI image-spec layer.md, "Whiteouts") and as overlayfs wants them.
#pragma once

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <string_view>

#include "common/error.h"

namespace keelson {

enum class WhiteoutKind {
  none,         // an ordinary name
  remove,       // .wh.NAME: hides NAME of the layers below
  opaque,       // .wh..wh..opq: hides all that the layers below have in this directory
  bookkeeping,  // AUFS's own files at the root of old layers (.wh..wh.aufs, .wh..wh.plnk/…): no content
};

struct Whiteout {
  WhiteoutKind kind = WhiteoutKind::none;
  std::string_view name;  // what `remove` hides; a view into the path
};

// What `path` (cleaned) says. Fails with kind `invalid` for a reserved name that makes no sense.
Result<Whiteout> classify_whiteout(std::string_view path);

inline constexpr const char* opaque_attribute = "trusted.overlay.opaque";

// overlayfs's whiteout: a character device 0:0.
inline bool is_overlay_whiteout(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
}

}  // namespace keelson
