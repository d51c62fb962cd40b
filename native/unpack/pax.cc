#include "unpack/pax.h"

#include <algorithm>
#include <charconv>

namespace keelson {

namespace {

constexpr std::string_view xattr_prefix = "SCHILY.xattr.";
constexpr std::string_view sparse_prefix = "GNU.sparse.";

std::unexpected<Error> bad_pax(std::string detail) {
  return fail(Kind::invalid, "read the PAX header", std::move(detail));
}

std::optional<int64_t> parse_decimal(std::string_view text) {
  int64_t value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "-1.5": seconds with any number of decimals; digits beyond nanoseconds are dropped.
std::optional<timespec> parse_time(std::string_view text) {
  size_t dot = std::min(text.find('.'), text.size());
  auto seconds = parse_decimal(text.substr(0, dot));
  if (!seconds) return std::nullopt;
  long nanoseconds = 0;
  long unit = 100'000'000;
  for (char digit : text.substr(std::min(dot + 1, text.size()))) {
    if (digit < '0' || digit > '9') return std::nullopt;
    nanoseconds += (digit - '0') * unit;
    unit /= 10;
  }
  if (text.starts_with('-') && nanoseconds > 0) {
    if (*seconds == INT64_MIN) return std::nullopt;
    return timespec{*seconds - 1, 1'000'000'000 - nanoseconds};
  }
  return timespec{*seconds, nanoseconds};
}

void set_xattr(std::vector<Xattr>& xattrs, std::string_view name, std::string_view value) {
  auto same = std::find_if(xattrs.begin(), xattrs.end(), [&](const Xattr& xattr) { return xattr.name == name; });
  if (same != xattrs.end()) {
    same->value = value;
  } else {
    xattrs.push_back({std::string(name), std::string(value)});
  }
}

// Applies one record; an empty value deletes an earlier one (POSIX).
Status apply(PaxRecords& records, std::string_view key, std::string_view value) {
  auto number = [&](std::optional<int64_t>& into) -> Status {
    into = parse_decimal(value);
    if (into || value.empty()) return {};
    return bad_pax("its " + std::string(key) + " is not a number");
  };
  if (key == "path") records.path = value;
  else if (key == "linkpath") records.link = value;
  else if (key == "size") return number(records.size);
  else if (key == "uid") return number(records.uid);
  else if (key == "gid") return number(records.gid);
  else if (key == "mtime") {
    records.mtime = parse_time(value);
    if (!records.mtime && !value.empty()) return bad_pax("its mtime is not a time");
  } else if (key.starts_with(sparse_prefix)) {
    if (!records.sparse) records.sparse.emplace();
    return records.sparse->add(key.substr(sparse_prefix.size()), value);
  } else if (key.starts_with(xattr_prefix)) {
    set_xattr(records.xattrs, key.substr(xattr_prefix.size()), value);
    if (records.xattrs.size() > max_xattrs) {
      return fail(Kind::limit, "read the PAX header", "an entry has more than " + std::to_string(max_xattrs) + " attributes");
    }
  }
  return {};
}

}  // namespace

void PaxRecords::override_with(const PaxRecords& other) {
  if (!other.path.empty()) path = other.path;
  if (!other.link.empty()) link = other.link;
  if (other.size) size = other.size;
  if (other.uid) uid = other.uid;
  if (other.gid) gid = other.gid;
  if (other.mtime) mtime = other.mtime;
  if (other.sparse) sparse = other.sparse;
  for (const Xattr& xattr : other.xattrs) set_xattr(xattrs, xattr.name, xattr.value);
}

size_t PaxRecords::weight() const {
  size_t total = path.size() + link.size();
  for (const Xattr& xattr : xattrs) total += xattr.name.size() + xattr.value.size();
  return total;
}

// A record is "<length> <key>=<value>\n"; the length includes itself.
Result<PaxRecords> parse_pax(std::string_view text) {
  PaxRecords records;
  while (!text.empty()) {
    size_t length = 0;
    auto [after, code] = std::from_chars(text.data(), text.data() + text.size(), length);
    size_t digits = static_cast<size_t>(after - text.data());
    if (code != std::errc() || digits == text.size() || *after != ' ') return bad_pax("a record has no length");
    if (length > text.size() || length < digits + 2 || text[length - 1] != '\n') {
      return bad_pax("a record's length is wrong");
    }
    std::string_view record = text.substr(digits + 1, length - digits - 2);
    text.remove_prefix(length);
    size_t equals = record.find('=');
    if (equals == record.npos || equals == 0) return bad_pax("a record has no key");
    TRY(apply(records, record.substr(0, equals), record.substr(equals + 1)));
  }
  return records;
}

}  // namespace keelson
