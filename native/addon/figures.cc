#include "addon/figures.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "common/fd.h"
#include "common/file.h"

namespace keelson {

namespace {

constexpr size_t file_limit = 64 << 10;

struct Figure {
  std::string file;
  std::string key;     // "total_rss " or empty
  std::string subkey;  // "avg10=" or empty
};

Figure parse_figure(const std::string& text) {
  size_t file_end = std::min(text.find(' '), text.size());
  Figure figure{text.substr(0, file_end), "", ""};
  if (file_end == text.size()) return figure;
  size_t key_end = std::min(text.find(' ', file_end + 1), text.size());
  figure.key = text.substr(file_end + 1, key_end - file_end - 1) + " ";
  if (key_end < text.size()) figure.subkey = text.substr(key_end + 1) + "=";
  return figure;
}

// What stands after `word`, where `word` begins the text or follows a `before`; empty when it is not there.
std::string_view after(std::string_view text, const std::string& word, char before) {
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    if (at == 0 || text[at - 1] == before) return text.substr(at + word.size());
  }
  return {};
}

uint64_t parse_number(std::string_view text) {
  std::string digits(text.substr(0, text.find_first_of(" \n")));
  std::erase(digits, '.');
  uint64_t number = no_figure;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size() ? number : no_figure;
}

uint64_t find_figure(std::string_view content, const Figure& figure) {
  if (!figure.key.empty()) content = after(content, figure.key, '\n');
  content = content.substr(0, content.find('\n'));
  if (!figure.subkey.empty()) content = after(content, figure.subkey, ' ');
  return parse_number(content);
}

// Empty when it cannot be read: no figure is in it.
std::string read_in(const Fd& directory, const std::string& name) {
  Fd file(::openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return {};
  return read_to_end(file.get(), file_limit, name).value_or("");
}

}  // namespace

std::vector<uint64_t> read_figures(const std::vector<std::string>& directories, const std::vector<std::string>& figures) {
  std::vector<Figure> wanted;
  for (const std::string& figure : figures) wanted.push_back(parse_figure(figure));
  std::vector<uint64_t> numbers;
  numbers.reserve(directories.size() * wanted.size());
  for (const std::string& path : directories) {
    // The files are opened from here: the kernel walks the long path once and not for each of them.
    Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const std::string* file = nullptr;
    std::string content;
    for (const Figure& figure : wanted) {
      if (directory && (file == nullptr || *file != figure.file)) content = read_in(directory, figure.file);
      file = &figure.file;
      numbers.push_back(find_figure(content, figure));
    }
  }
  return numbers;
}

}  // namespace keelson
