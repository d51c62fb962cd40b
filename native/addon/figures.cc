#include "addon/figures.h"

#include <fcntl.h>
#include <sys/resource.h>

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

// The text after `word`, where `word` begins the text or follows a `before`; empty when there is no such `word`.
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

std::vector<Figure> parse_figures(const std::vector<std::string>& figures) {
  std::vector<Figure> wanted;
  for (const std::string& figure : figures) wanted.push_back(parse_figure(figure));
  return wanted;
}

// Appends the wanted figures of one directory. `content_of` returns a file's content, or "" when it cannot be read.
void take_figures(const std::vector<Figure>& wanted, auto content_of, std::vector<uint64_t>& numbers) {
  const std::string* file = nullptr;
  std::string content;
  for (const Figure& figure : wanted) {
    if (file == nullptr || *file != figure.file) content = content_of(figure.file);
    file = &figure.file;
    numbers.push_back(find_figure(content, figure));
  }
}

Fd open_in(const Fd& directory, const std::string& name) {
  return Fd(::openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
}

std::string content_of(const Fd& file, const std::string& name) {
  return file ? read_to_end(file.get(), file_limit, name).value_or("") : "";
}

size_t quarter_of_descriptors() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / 4 : 0;
}

}  // namespace

std::vector<uint64_t> read_figures(const std::vector<std::string>& directories, const std::vector<std::string>& figures) {
  const std::vector<Figure> wanted = parse_figures(figures);
  std::vector<uint64_t> numbers;
  numbers.reserve(directories.size() * wanted.size());
  for (const std::string& path : directories) {
    // The files are opened relative to this, so that the kernel walks the long path only once.
    Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    take_figures(wanted, [&](const std::string& name) { return content_of(open_in(directory, name), name); }, numbers);
  }
  return numbers;
}

FiguresReader::FiguresReader() : FiguresReader(quarter_of_descriptors()) {}

std::vector<uint64_t> FiguresReader::read(const std::vector<std::string>& directories,
                                          const std::vector<std::string>& figures) {
  const std::vector<Figure> wanted = parse_figures(figures);
  std::vector<uint64_t> numbers;
  numbers.reserve(directories.size() * wanted.size());
  for (const std::string& path : directories) {
    const std::shared_ptr<Files> files = files_of(path);
    std::scoped_lock in_use(files->in_use);
    take_figures(wanted, [&](const std::string& name) { return read_file(*files, path, name); }, numbers);
  }
  return numbers;
}

// An open file that cannot be read belongs to a cgroup that was removed. The cgroup may have been created again since.
std::string FiguresReader::read_file(Files& files, const std::string& directory, const std::string& name) {
  char content[file_limit];
  auto known = std::ranges::find(files.open, name, &std::pair<std::string, Fd>::first);
  if (known != files.open.end()) {
    // One read with enough room returns all of such a file.
    const ssize_t size = pread(known->second.get(), content, sizeof content, 0);
    if (size > 0) return {content, static_cast<size_t>(size)};
    files.open.erase(known);
    release_room(1);
  }
  Fd file(::open((directory + "/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  std::string first = content_of(file, name);
  if (!first.empty() && take_room()) files.open.emplace_back(name, std::move(file));
  return first;
}

std::shared_ptr<FiguresReader::Files> FiguresReader::files_of(const std::string& directory) {
  std::scoped_lock locked(lock_);
  std::shared_ptr<Files>& files = directories_[directory];
  if (!files) files = std::make_shared<Files>();
  return files;
}

void FiguresReader::forget(const std::vector<std::string>& directories) {
  for (const std::string& path : directories) {
    std::shared_ptr<Files> files;
    {
      std::scoped_lock locked(lock_);
      if (auto known = directories_.extract(path)) files = std::move(known.mapped());
    }
    if (!files) continue;
    std::scoped_lock in_use(files->in_use);
    release_room(files->open.size());
    files->open.clear();
  }
}

size_t FiguresReader::open_files() const {
  std::scoped_lock locked(lock_);
  return open_;
}

bool FiguresReader::take_room() {
  std::scoped_lock locked(lock_);
  if (open_ >= most_open_) return false;
  ++open_;
  return true;
}

void FiguresReader::release_room(size_t files) {
  std::scoped_lock locked(lock_);
  open_ -= files;
}

}  // namespace keelson
