#include "unpack/whiteout.h"

namespace keelson {

namespace {

constexpr std::string_view prefix = ".wh.";
constexpr std::string_view meta_prefix = ".wh..wh.";
constexpr std::string_view opaque_name = ".wh..wh..opq";

}  // namespace

Result<Whiteout> classify_whiteout(std::string_view path) {
  constexpr const char* step = "read the whiteout";
  std::string_view first = path.substr(0, path.find('/'));
  if (first.starts_with(meta_prefix) && first != opaque_name) return Whiteout{WhiteoutKind::bookkeeping, {}};
  size_t slash = path.rfind('/');
  std::string_view name = slash == path.npos ? path : path.substr(slash + 1);
  std::string_view parent = slash == path.npos ? std::string_view{} : path.substr(0, slash);
  if (parent.starts_with(prefix) || parent.find("/.wh.") != parent.npos) {
    return fail(Kind::invalid, step, "the reserved prefix .wh. stands in the middle of the path");
  }
  if (name == opaque_name) return Whiteout{WhiteoutKind::opaque, {}};
  if (!name.starts_with(prefix)) return Whiteout{};
  std::string_view hidden = name.substr(prefix.size());
  if (hidden.empty() || hidden == "." || hidden == ".." || hidden.starts_with(prefix)) {
    return fail(Kind::invalid, step, "it hides no possible name");
  }
  return Whiteout{WhiteoutKind::remove, hidden};
}

}  // namespace keelson
