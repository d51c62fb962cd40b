#include "common/json.h"

#include <charconv>

namespace keelson {

namespace {

constexpr int max_depth = 64;
const Json null_json;
const std::vector<Json> no_items;
const std::vector<std::pair<std::string, Json>> no_members;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20; }

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  static constexpr uint32_t marks[] = {0xc0, 0xe0, 0xf0};
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // bytes after the first
  out += static_cast<char>(marks[more - 1] | code >> (6 * more));
  for (int left = more - 1; left >= 0; --left) out += static_cast<char>(0x80 | (code >> (6 * left) & 0x3f));
}

}  // namespace

bool Json::boolean(bool otherwise) const { return type_ == Type::boolean ? boolean_ : otherwise; }

int64_t Json::integer(int64_t otherwise) const { return type_ == Type::integer ? integer_ : otherwise; }

std::string_view Json::string(std::string_view otherwise) const {
  return type_ == Type::string ? std::string_view(string_) : otherwise;
}

const Json& Json::operator[](std::string_view key) const {
  for (const auto& [name, value] : members_) {
    if (name == key) return value;
  }
  return null_json;
}

const std::vector<Json>& Json::items() const { return type_ == Type::array ? items_ : no_items; }

const std::vector<std::pair<std::string, Json>>& Json::members() const {
  return type_ == Type::object ? members_ : no_members;
}

void Json::set(std::string_view key, Json value) {
  for (auto& [name, old] : members_) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  members_.emplace_back(key, std::move(value));
}

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Result<Json> document() {
    Json root;
    if (!value(root, 0)) return failure();
    skip_space();
    if (at_ != text_.size()) {
      why_ = "there is text after the document";
      return failure();
    }
    return root;
  }

 private:
  std::unexpected<Error> failure() const {
    return fail(Kind::invalid, "parse JSON", why_ + " at byte " + std::to_string(at_));
  }

  bool wrong(const char* why) {
    if (why_.empty()) why_ = why;
    return false;
  }

  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  bool take(char wanted) {
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  bool literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return wrong("unknown word");
    at_ += word.size();
    return true;
  }

  bool value(Json& out, int depth) {
    if (depth > max_depth) return wrong("nested deeper than 64 levels");
    skip_space();
    if (at_ == text_.size()) return wrong("the text ends early");
    switch (text_[at_]) {
      case '{': return object(out, depth);
      case '[': return array(out, depth);
      case '"': out.type_ = Json::Type::string; return string(out.string_);
      case 't': out.type_ = Json::Type::boolean; out.boolean_ = true; return literal("true");
      case 'f': out.type_ = Json::Type::boolean; out.boolean_ = false; return literal("false");
      case 'n': return literal("null");
      default: return number(out);
    }
  }

  // Parses the elements between two brackets, each with `element`.
  bool elements(char close, const char* unfinished, auto element) {
    ++at_;
    skip_space();
    if (take(close)) return true;
    while (element()) {
      skip_space();
      if (take(close)) return true;
      if (at_ == text_.size()) return wrong(unfinished);
      if (!take(',')) return wrong("a comma is missing");
    }
    return false;
  }

  bool object(Json& out, int depth) {
    out.type_ = Json::Type::object;
    return elements('}', "an object is not closed", [&] {
      skip_space();
      if (at_ == text_.size() || text_[at_] != '"') return wrong("a member's name is missing");
      auto& [name, member] = out.members_.emplace_back();
      if (!string(name)) return false;
      skip_space();
      return take(':') ? value(member, depth + 1) : wrong("a colon is missing");
    });
  }

  bool array(Json& out, int depth) {
    out.type_ = Json::Type::array;
    return elements(']', "an array is not closed", [&] { return value(out.items_.emplace_back(), depth + 1); });
  }

  bool is_digit(size_t at) const { return at < text_.size() && text_[at] >= '0' && text_[at] <= '9'; }

  bool digits() {
    const size_t begin = at_;
    while (is_digit(at_)) ++at_;
    return at_ > begin || wrong("not a number");
  }

  bool number(Json& out) {
    const size_t first = text_[at_] == '-' ? at_ + 1 : at_;
    if (is_digit(first) && text_[first] == '0' && is_digit(first + 1)) return wrong("a number begins with a zero");
    auto [stop, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), out.integer_);
    if (code == std::errc::invalid_argument) return wrong("a value is expected");
    at_ = static_cast<size_t>(stop - text_.data());
    out.type_ = code == std::errc() ? Json::Type::integer : Json::Type::real;
    if (take('.')) {
      out.type_ = Json::Type::real;
      if (!digits()) return false;
    }
    if (take('e') || take('E')) {
      out.type_ = Json::Type::real;
      if (!take('-')) take('+');
      return digits();
    }
    return true;
  }

  bool unicode_escape(uint32_t& code) {
    if (at_ + 4 > text_.size()) return wrong("a \\u escape ends early");
    const char* begin = text_.data() + at_;
    if (std::from_chars(begin, begin + 4, code, 16).ptr != begin + 4) return wrong("a \\u escape has an invalid digit");
    at_ += 4;
    return true;
  }

  bool string(std::string& out) {
    ++at_;
    for (;;) {
      size_t plain = at_;
      while (plain < text_.size() && text_[plain] != '"' && text_[plain] != '\\' && !is_control(text_[plain])) ++plain;
      out.append(text_, at_, plain - at_);
      at_ = plain;
      if (at_ == text_.size()) return wrong("a string is not closed");
      if (is_control(text_[at_])) return wrong("a string has a control character that is not escaped");
      if (text_[at_++] == '"') return true;
      if (at_ == text_.size()) return wrong("a string is not closed");
      char escape = text_[at_++];
      switch (escape) {
        case '"': case '\\': case '/': out += escape; break;
        case 'b': out += '\b'; break;
        case 'f': out += '\f'; break;
        case 'n': out += '\n'; break;
        case 'r': out += '\r'; break;
        case 't': out += '\t'; break;
        case 'u': {
          uint32_t code = 0;
          if (!unicode_escape(code)) return false;
          if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
            at_ += 2;
            uint32_t low = 0;
            if (!unicode_escape(low)) return false;
            if (low < 0xdc00 || low > 0xdfff) return wrong("half a surrogate pair");
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          }
          append_utf8(out, code);
          break;
        }
        default: return wrong("an unknown escape");
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string why_;
};

Result<Json> parse_json(std::string_view text) { return JsonParser(text).document(); }

void JsonWriter::separate() {
  if (text_.empty()) return;
  char last = text_.back();
  if (last != '{' && last != '[' && last != ':') text_ += ',';
}

JsonWriter& JsonWriter::begin_object() { separate(); text_ += '{'; return *this; }
JsonWriter& JsonWriter::end_object() { text_ += '}'; return *this; }
JsonWriter& JsonWriter::begin_array() { separate(); text_ += '['; return *this; }
JsonWriter& JsonWriter::end_array() { text_ += ']'; return *this; }

JsonWriter& JsonWriter::key(std::string_view name) {
  value(name);
  text_ += ':';
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  separate();
  text_ += '"';
  for (char c : text) {
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (is_control(c)) {
      text_ += "\\u00";
      text_ += digits[static_cast<unsigned char>(c) >> 4];
      text_ += digits[c & 15];
    } else {
      text_ += c;
    }
  }
  text_ += '"';
  return *this;
}

JsonWriter& JsonWriter::value(int64_t number) {
  separate();
  text_ += std::to_string(number);
  return *this;
}

JsonWriter& JsonWriter::value(bool truth) {
  separate();
  text_ += truth ? "true" : "false";
  return *this;
}

std::string error_json(const Error& error) {
  JsonWriter json;
  json.begin_object();
  json.key("kind").value(to_string(error.kind));
  json.key("step").value(error.step);
  json.key("object").value(error.object);
  json.key("errno").value(error.error_number);
  json.key("message").value(error.message());
  json.end_object();
  return json.take();
}

}  // namespace keelson
