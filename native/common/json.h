// JSON as the monitor and the unpacker need it: a parser into a tree, a writer, and the form of an Error.
//
// Strings are bytes: what stands between the quotes is kept as it is (an
// environment value may not be UTF-8), only escapes are resolved. Depth is
// bounded (64), size by the caller.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"

namespace keelson {

class Json {
 public:
  // `real`: a number that is no int64_t. Nobody asks for its value.
  enum class Type : uint8_t { null, boolean, integer, real, string, array, object };

  Type type() const { return type_; }
  bool is_null() const { return type_ == Type::null; }
  bool is_object() const { return type_ == Type::object; }
  bool is_array() const { return type_ == Type::array; }
  bool is_string() const { return type_ == Type::string; }

  // Readers with a fallback: the value when it is of that type, else `otherwise`.
  bool boolean(bool otherwise = false) const;
  int64_t integer(int64_t otherwise = 0) const;
  std::string_view string(std::string_view otherwise = {}) const;

  // An object's member, or a null Json when it is missing (chains safely).
  const Json& operator[](std::string_view key) const;
  const std::vector<Json>& items() const;                              // of an array
  const std::vector<std::pair<std::string, Json>>& members() const;    // of an object
  void set(std::string_view key, Json value);                          // an object's member, new or in place of the old one

  friend Result<Json> parse_json(std::string_view text);

 private:
  Type type_ = Type::null;
  bool boolean_ = false;
  int64_t integer_ = 0;
  std::string string_;
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
  friend class JsonParser;
};

Result<Json> parse_json(std::string_view text);

// Appends JSON text; the caller keeps begin/end in balance. Commas are its own business.
class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(int64_t number);
  JsonWriter& value(int number) { return value(static_cast<int64_t>(number)); }
  JsonWriter& value(bool truth);
  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }

 private:
  void separate();
  std::string text_;
};

// {kind, step, object, errno, message}, as PROTOCOL.md has it.
std::string error_json(const Error& error);

}  // namespace keelson
