// Names in a layer: cleaned once, then known to stay below the layer's root as text; and the names that are whiteouts
// (OCI image-spec layer.md, "Whiteouts").
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"

namespace keelson {

constexpr size_t max_path_components = 256;
constexpr size_t max_path_bytes = 4095;     // PATH_MAX without its NUL
constexpr size_t max_component_bytes = 255;  // NAME_MAX

// A path inside the layer: components joined by single slashes, none of them empty, `.` or `..`.
// Empty for the root itself. Within the bounds above.
class LayerPath {
 public:
  // Cleans a name from an archive; an absolute one is taken as relative to the root.
  // Fails with kind `invalid` for `..`, a NUL byte, an empty name, or what is past the bounds.
  static Result<LayerPath> parse(std::string_view name);

  const std::string& text() const { return text_; }
  bool is_root() const { return text_.empty(); }
  // All but the last component; empty when the root holds it.
  std::string_view parent() const;
  const char* name() const;  // the last component

 private:
  std::string text_;
  size_t name_at_ = 0;
};

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

// A name for an error message: control characters escaped, cut to a readable length.
std::string quoted(std::string_view name);

}  // namespace keelson
