#include "addon/figures.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace keelson {

namespace {

constexpr size_t file_limit = 64 << 10;

struct Figure {
  std::string key;     // "total_rss " or empty
  std::string subkey;  // "avg10=" or empty
};

// What follows the next space of `text`, which is cut there.
std::string cut_at_space(std::string& text) {
  const size_t end = std::min(text.find(' '), text.size());
  std::string rest = text.substr(std::min(end + 1, text.size()));
  text.resize(end);
  return rest;
}

uint64_t parse_number(std::string_view text) {
  uint64_t number = 0;
  bool has_digits = false;
  for (const char c : text.substr(0, text.find_first_of(" \n"))) {
    if (c == '.') continue;
    if (c < '0' || c > '9') return no_figure;
    if (__builtin_mul_overflow(number, 10, &number)) return no_figure;
    if (__builtin_add_overflow(number, static_cast<uint64_t>(c - '0'), &number)) return no_figure;
    has_digits = true;
  }
  return has_digits ? number : no_figure;
}

// The text after `word`, where it begins `line` or follows a space; empty when there is no such word.
std::string_view after(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != line.npos; at = line.find(word, at + 1)) {
    if (at == 0 || line[at - 1] == ' ') return line.substr(at + word.size());
  }
  return {};
}

// Figures of one file, next to each other.
struct File {
  std::string pattern;
  std::vector<Figure> figures;
};

// A pattern may contain spaces before its "*", as a mount point may.
std::vector<File> parse_figures(const std::vector<std::string>& figures) {
  std::vector<File> files;
  for (const std::string& figure : figures) {
    const size_t star = figure.rfind('*') == figure.npos ? 0 : figure.rfind('*');
    std::string name = figure.substr(star);
    std::string key = cut_at_space(name);
    std::string subkey = cut_at_space(key);
    const std::string pattern = figure.substr(0, star) + name;
    if (files.empty() || files.back().pattern != pattern) files.push_back({pattern, {}});
    if (!key.empty()) key += ' ';
    if (!subkey.empty()) subkey += '=';
    files.back().figures.push_back({key, subkey});
  }
  return files;
}

std::string path_of(const std::string& pattern, const std::string& cgroup) {
  std::string path = pattern;
  const size_t star = path.rfind('*');
  return star == path.npos ? path : path.replace(star, 1, cgroup);
}

// Sets `numbers`, one for each figure, to what `content` has of them.
void take_figures(std::string_view content, const std::vector<Figure>& figures, std::span<uint64_t> numbers) {
  for (size_t start = 0; start < content.size();) {
    const size_t end = std::min(content.find('\n', start), content.size());
    const std::string_view line = content.substr(start, end - start);
    for (size_t i = 0; i < figures.size(); ++i) {
      const Figure& figure = figures[i];
      if (!line.starts_with(figure.key) || (figure.key.empty() && start > 0)) continue;
      const std::string_view value = line.substr(figure.key.size());
      numbers[i] = parse_number(figure.subkey.empty() ? value : after(value, figure.subkey));
    }
    start = end + 1;
  }
}

// Reads the whole of a cgroup's file, which one read with enough room returns. 0 when it cannot be read.
size_t read_all(const Fd& file, std::span<char> content) {
  const ssize_t size = pread(file.get(), content.data(), content.size(), 0);
  return size > 0 && static_cast<size_t>(size) < content.size() ? static_cast<size_t>(size) : 0;
}

size_t quarter_of_descriptors() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / 4 : 0;
}

}  // namespace

FiguresReader::FiguresReader() : FiguresReader(quarter_of_descriptors()) {}

std::vector<uint64_t> FiguresReader::read(const std::vector<std::string>& cgroups,
                                          const std::vector<std::string>& figures) {
  const std::vector<File> wanted = parse_figures(figures);
  std::vector<uint64_t> numbers(cgroups.size() * figures.size(), no_figure);
  std::array<char, file_limit> content;
  std::span<uint64_t> left(numbers);
  for (const std::string& cgroup : cgroups) {
    const std::shared_ptr<Files> files = files_of(cgroup);
    std::scoped_lock in_use(files->in_use);
    for (const File& file : wanted) {
      const size_t size = read_file(*files, cgroup, file.pattern, content);
      take_figures({content.data(), size}, file.figures, left.first(file.figures.size()));
      left = left.subspan(file.figures.size());
    }
  }
  return numbers;
}

// Returns the size of the content, 0 if it cannot be read. An open file that cannot be read belongs to a cgroup that was
// removed. The cgroup may have been created again since.
size_t FiguresReader::read_file(Files& files, const std::string& cgroup, const std::string& pattern,
                                std::span<char> content) {
  const auto known = std::ranges::find(files.open, pattern, &std::pair<std::string, Fd>::first);
  if (known != files.open.end()) {
    if (const size_t size = read_all(known->second, content); size > 0) return size;
    files.open.erase(known);
    release_room(1);
  }
  Fd file(::open(path_of(pattern, cgroup).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return 0;
  const size_t size = read_all(file, content);
  if (size > 0 && take_room()) files.open.emplace_back(pattern, std::move(file));
  return size;
}

std::shared_ptr<FiguresReader::Files> FiguresReader::files_of(const std::string& cgroup) {
  std::scoped_lock locked(lock_);
  std::shared_ptr<Files>& files = cgroups_[cgroup];
  if (!files) files = std::make_shared<Files>();
  return files;
}

void FiguresReader::forget(const std::vector<std::string>& cgroups) {
  for (const std::string& cgroup : cgroups) {
    std::shared_ptr<Files> files;
    {
      std::scoped_lock locked(lock_);
      if (auto known = cgroups_.extract(cgroup)) files = std::move(known.mapped());
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

std::vector<uint64_t> read_figures(const std::vector<std::string>& cgroups, const std::vector<std::string>& figures) {
  return FiguresReader(0).read(cgroups, figures);
}

}  // namespace keelson
