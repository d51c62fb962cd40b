// Names in a layer: normalized and checked once, so that the text cannot lead out of the layer's root; and whiteout names
// (OCI image-spec layer.md, "Whiteouts").
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

constexpr size_t max_path_components = 256;
constexpr size_t max_path_bytes = 4095;     // PATH_MAX without the NUL
constexpr size_t max_component_bytes = 255;  // NAME_MAX

// A path inside the layer: components joined by single slashes, none of them empty, `.` or `..`. Empty for the root itself.
// Within the limits above.
class LayerPath {
 public:
  // Normalizes a name from an archive; an absolute one is taken as relative to the root. Fails with kind `invalid` for
  // `..`, a NUL byte or an empty name, and with kind `limit` past the limits.
  static Result<LayerPath> parse(std::string_view name);

  const std::string& text() const { return text_; }
  bool is_root() const { return text_.empty(); }
  // All components except the last; empty if the parent is the root.
  std::string_view parent() const;
  const char* name() const;  // the last component

 private:
  std::string text_;
  size_t name_at_ = 0;
};

enum class WhiteoutKind {
  none,         // an ordinary name
  remove,       // .wh.NAME: hides NAME in the layers below
  opaque,       // .wh..wh..opq: hides everything that the layers below have in this directory
  bookkeeping,  // AUFS's own files at the root of old layers (.wh..wh.aufs, .wh..wh.plnk/…), which are not content
};

struct Whiteout {
  WhiteoutKind kind = WhiteoutKind::none;
  std::string_view name;  // the name that `remove` hides; a view into the path
};

// Classifies a normalized path. Fails with kind `invalid` for a reserved name that is not a valid whiteout.
Result<Whiteout> classify_whiteout(std::string_view path);

// A name for an error message: control characters escaped, truncated to a readable length.
std::string quoted(std::string_view name);

}  // namespace keelson
