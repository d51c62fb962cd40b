// JSON for the monitor and the unpacker: a parser into a tree, a writer, and the JSON form of an Error.
//
// Strings are bytes and need not be UTF-8 (an environment value may not be); only escapes are decoded. The parser limits the
// depth (64), the caller the size.
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
  // `real`: a number that is not an int64_t. Its value is not kept.
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
  void set(std::string_view key, Json value);                          // adds or replaces an object's member

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

// Appends JSON text and inserts commas; the caller must balance begin and end.
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

// {kind, step, object, errno, message}, as in PROTOCOL.md.
std::string error_json(const Error& error);

}  // namespace keelson
