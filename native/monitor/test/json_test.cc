#include "common/json.h"

#include "monitor/test/unit_test.h"

namespace keelson::test {

namespace {

bool refuses_json(std::string_view text) { return !parse_json(text).has_value(); }

void reads_what_it_writes() {
  std::string odd("quote \" backslash \\ newline \n nul \0 byte \xff end", 46);
  JsonWriter json;
  json.begin_object().key("text").value(odd).key("n").value(int64_t{-9007199254740993}).key("b").value(true);
  json.key("list").begin_array().value(1).begin_object().end_object().value("x").end_array().end_object();
  auto parsed = parse_json(json.text());
  EXPECT(parsed.has_value());
  EXPECT_EQUAL((*parsed)["text"].string(), odd);
  EXPECT_EQUAL((*parsed)["n"].integer(), -9007199254740993);
  EXPECT((*parsed)["b"].boolean());
  EXPECT_EQUAL(static_cast<long>((*parsed)["list"].items().size()), 3);
}

void resolves_escapes() {
  auto parsed = parse_json(R"({"a": "\u00e9\ud83d\ude00\/\b", "b": ""})");
  EXPECT(parsed.has_value());
  EXPECT_EQUAL((*parsed)["a"].string(), "\xc3\xa9\xf0\x9f\x98\x80/\b");
  EXPECT((*parsed)["missing"]["chain"].is_null());
  EXPECT_EQUAL((*parsed)["missing"].integer(7), 7);
}

void refuses_invalid_json() {
  for (std::string_view text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "\"open", "\"\\u12\"", "\"\\ud800\\u0041\"", "1 2",
                                "{\"a\":1,}", "\"\\x\"", "--1", "+1", "-", "1.", "1e", "1e+", ".5", "01", "-01.5", "\"\t\"",
                                "{\"a\nb\":1}", "\"\x1f\""}) {
    EXPECT(refuses_json(text));
  }
  EXPECT(refuses_json(std::string_view("\"\0\"", 3)));
}

void bounds_depth() {
  EXPECT(refuses_json(std::string(100000, '[')));
  EXPECT(refuses_json(std::string(66, '[') + std::string(66, ']')));
  EXPECT(!refuses_json(std::string(60, '[') + std::string(60, ']')));
}

void numbers_keep_their_type() {
  auto parsed = parse_json("[9223372036854775807, -1.5, 1e3, 18446744073709551616, -0, 0.5]");
  EXPECT(parsed.has_value());
  EXPECT_EQUAL(parsed->items()[0].integer(), 9223372036854775807);
  EXPECT_EQUAL(parsed->items()[4].integer(7), 0);
  for (size_t at : {1, 2, 3, 5}) {
    EXPECT(parsed->items()[at].type() == Json::Type::real);
    EXPECT_EQUAL(parsed->items()[at].integer(42), 42);
  }
}

}  // namespace

std::vector<Test> json_tests() {
  return {
      {"json: reads what it writes", reads_what_it_writes},
      {"json: resolves escapes", resolves_escapes},
      {"json: refuses invalid JSON", refuses_invalid_json},
      {"json: bounds depth", bounds_depth},
      {"json: numbers keep their type", numbers_keep_their_type},
  };
}

}  // namespace keelson::test
