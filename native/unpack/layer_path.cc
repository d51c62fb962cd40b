#include "unpack/layer_path.h"

#include <algorithm>

namespace keelson {

namespace {

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view bookkeeping_prefix = ".wh..wh.";
constexpr std::string_view opaque_name = ".wh..wh..opq";

}  // namespace

Result<LayerPath> LayerPath::parse(std::string_view name) {
  constexpr const char* step = "check the entry's name";
  if (name.empty()) return fail(Kind::invalid, step, "the name is empty");
  if (name.find('\0') != name.npos) return fail(Kind::invalid, step, "the name contains a NUL byte");
  LayerPath path;
  size_t components = 0;
  for (size_t at = 0; at < name.size();) {
    size_t end = std::min(name.find('/', at), name.size());
    std::string_view component = name.substr(at, end - at);
    at = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") return fail(Kind::invalid, step, "it has a `..` component, which could leave the layer");
    if (component.size() > max_component_bytes) return fail(Kind::limit, step, "a component is longer than 255 bytes");
    if (++components > max_path_components) return fail(Kind::limit, step, "it is deeper than 256 components");
    if (!path.text_.empty()) path.text_ += '/';
    path.name_at_ = path.text_.size();
    path.text_ += component;
    if (path.text_.size() > max_path_bytes) return fail(Kind::limit, step, "it is longer than 4095 bytes");
  }
  return path;
}

std::string_view LayerPath::parent() const {
  return std::string_view(text_).substr(0, name_at_ == 0 ? 0 : name_at_ - 1);
}

const char* LayerPath::name() const { return text_.c_str() + name_at_; }

Result<Whiteout> classify_whiteout(std::string_view path) {
  constexpr const char* step = "read the whiteout";
  std::string_view first = path.substr(0, path.find('/'));
  if (first.starts_with(bookkeeping_prefix) && first != opaque_name) return Whiteout{WhiteoutKind::bookkeeping, {}};
  size_t slash = path.rfind('/');
  std::string_view name = slash == path.npos ? path : path.substr(slash + 1);
  std::string_view parent = slash == path.npos ? std::string_view{} : path.substr(0, slash);
  if (parent.starts_with(whiteout_prefix) || parent.find("/.wh.") != parent.npos) {
    return fail(Kind::invalid, step, "the reserved prefix .wh. is in the middle of the path");
  }
  if (name == opaque_name) return Whiteout{WhiteoutKind::opaque, {}};
  if (!name.starts_with(whiteout_prefix)) return Whiteout{};
  std::string_view hidden = name.substr(whiteout_prefix.size());
  if (hidden.empty() || hidden == "." || hidden == ".." || hidden.starts_with(whiteout_prefix)) {
    return fail(Kind::invalid, step, "the name that it hides is not valid");
  }
  return Whiteout{WhiteoutKind::remove, hidden};
}

std::string quoted(std::string_view name) {
  static constexpr char digits[] = "0123456789abcdef";
  constexpr size_t longest = 200;
  std::string text = "\"";
  for (char c : name.substr(0, longest)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\\') {
      text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    } else {
      text += c;
    }
  }
  return text + (name.size() > longest ? "…\"" : "\"");
}

}  // namespace keelson
