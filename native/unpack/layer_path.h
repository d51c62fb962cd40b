// Names in a layer: cleaned once, then known to stay below the layer's root as text.
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

// A name for an error message: control characters escaped, cut to a readable length.
std::string quoted(std::string_view name);

}  // namespace keelson
