#include "unpack/tar_reader.h"

#include <algorithm>
#include <cstring>

#include "unpack/layer_path.h"

namespace keelson {

namespace {

std::unexpected<Error> bad_entry(std::string detail) {
  return fail(Kind::invalid, "read the tar entry", std::move(detail));
}

std::unexpected<Error> ended_early() {
  return fail(Kind::invalid, "read the tar stream", "it is truncated");
}

uint64_t padding_after(uint64_t size) { return (tar_block - size % tar_block) % tar_block; }

std::optional<EntryType> entry_type(char type, const std::string& path) {
  switch (type) {
    case '0': return path.ends_with('/') ? EntryType::directory : EntryType::file;  // v7 had no type for directories
    case '7':                         // contiguous, POSIX: treated as a file
    case 'S': return EntryType::file;  // sparse, GNU
    case '1': return EntryType::hard_link;
    case '2': return EntryType::symlink;
    case '3': return EntryType::character_device;
    case '4': return EntryType::block_device;
    case '5': return EntryType::directory;
    case '6': return EntryType::fifo;
    default: return std::nullopt;
  }
}

std::string unknown_type(char type) {
  return "its type " + quoted(std::string_view(&type, 1)) + " is not supported in a layer";
}

// chown(2) takes 32-bit ids; -1 means "do not change".
bool is_id(int64_t id) { return id >= 0 && id < UINT32_MAX; }

// The kernel's dev_t has 12 bits of major number and 20 of minor number.
bool is_device(const TarHeader& header) {
  return header.major >= 0 && header.major < (1 << 12) && header.minor >= 0 && header.minor < (1 << 20);
}

}  // namespace

Result<std::span<const uint8_t>> TarStream::take(uint64_t most) {
  if (chunk_.empty()) {
    chunk_ = TRY(source_.next());
    hash_.update(chunk_);
  }
  auto piece = chunk_.first(static_cast<size_t>(std::min<uint64_t>(most, chunk_.size())));
  chunk_ = chunk_.subspan(piece.size());
  return piece;
}

Result<bool> TarStream::read(std::span<uint8_t> into) {
  const size_t wanted = into.size();
  while (!into.empty()) {
    std::span<const uint8_t> piece = TRY(take(into.size()));
    if (piece.empty()) {
      if (into.size() == wanted) return false;
      return ended_early();
    }
    memcpy(into.data(), piece.data(), piece.size());
    into = into.subspan(piece.size());
  }
  return true;
}

Status TarStream::skip(uint64_t length) {
  while (length > 0) {
    std::span<const uint8_t> piece = TRY(take(length));
    if (piece.empty()) return ended_early();
    length -= piece.size();
  }
  return {};
}

Result<std::array<uint8_t, 32>> TarStream::drain() {
  for (;;) {
    std::span<const uint8_t> piece = TRY(take(UINT64_MAX));
    if (piece.empty()) return hash_.finish();
  }
}

Result<std::optional<Entry>> TarReader::next() {
  TRY(stream_.skip(content_left_ + padding_));
  content_left_ = padding_ = 0;
  std::string long_name;
  std::string long_link;
  PaxRecords locals;
  for (;;) {
    std::optional<TarHeader> header = TRY(this->header());
    if (!header) return std::nullopt;
    switch (header->type) {
      case 'g': {
        TRY(add_globals(*header));
        break;
      }
      case 'x': {
        std::string text = TRY(extension(*header));
        locals = TRY(parse_pax(text));
        break;
      }
      case 'L':
      case 'K': {
        std::string text = TRY(extension(*header));
        text.resize(std::min(text.find('\0'), text.size()));
        (header->type == 'L' ? long_name : long_link) = std::move(text);
        break;
      }
      default: {
        PaxRecords records = globals_;
        if (!long_name.empty()) records.path = std::move(long_name);
        if (!long_link.empty()) records.link = std::move(long_link);
        records.override_with(locals);
        return TRY(entry(std::move(*header), std::move(records)));
      }
    }
  }
}

// The next header, or nothing at the end of the archive. Some writers omit the end mark, or half of it, and a layer may be
// empty; the digest shows whether the stream is complete.
Result<std::optional<TarHeader>> TarReader::header() {
  if (!TRY(stream_.read(block_))) return std::nullopt;
  if (!is_zero_block(block_)) return TRY(parse_tar_header(block_));
  if (TRY(stream_.read(block_)) && !is_zero_block(block_)) {
    return bad_entry("there is a single zero block between entries");
  }
  return std::nullopt;
}

// The content of an entry that describes the next entry.
Result<std::string> TarReader::extension(const TarHeader& header) {
  auto size = static_cast<uint64_t>(header.size);
  if (size > max_pax_bytes) return fail(Kind::limit, "read the tar entry", "a name or PAX header is larger than 1 MiB");
  std::string text(size, '\0');
  if (!TRY(stream_.read(std::span(reinterpret_cast<uint8_t*>(text.data()), text.size())))) return ended_early();
  TRY(stream_.skip(padding_after(size)));
  return text;
}

Status TarReader::add_globals(const TarHeader& header) {
  std::string text = TRY(extension(header));
  PaxRecords records = TRY(parse_pax(text));
  // These would be written to disk for every entry but are in the archive only once, which would defeat the limit on bytes.
  if (records.sparse) return bad_entry("a global PAX header describes a sparse file");
  if (!records.xattrs.empty()) return bad_entry("a global PAX header sets attributes for all entries");
  globals_.override_with(records);
  if (globals_.weight() > max_global_bytes) {
    return fail(Kind::limit, "read the tar entry", "the global PAX headers are larger than 16 KiB");
  }
  return {};
}

Result<Entry> TarReader::entry(TarHeader header, PaxRecords records) {
  if (!records.path.empty()) header.path = std::move(records.path);
  if (!records.link.empty()) header.link = std::move(records.link);
  if (records.size) header.size = *records.size;
  if (records.uid) header.uid = *records.uid;
  if (records.gid) header.gid = *records.gid;
  auto wrong = [&header](std::string detail) {
    return about(bad_entry(std::move(detail)), "entry " + quoted(header.path));
  };

  std::optional<EntryType> type = entry_type(header.type, header.path);
  if (!type) return wrong(unknown_type(header.type));
  if (!is_id(header.uid)) return wrong("its owner " + std::to_string(header.uid) + " is not a user id");
  if (!is_id(header.gid)) return wrong("its group " + std::to_string(header.gid) + " is not a group id");
  if (header.size < 0) return wrong("its size is negative");
  // Go's reader skips such content, GNU tar and Python's read it as entries: a layer would differ from what was inspected.
  if (type == EntryType::directory && header.type == '0' && header.size > 0) {
    return wrong("its name ends with a slash, like a directory's, but it has content");
  }
  bool device = type == EntryType::character_device || type == EntryType::block_device;
  if (device && !is_device(header)) return wrong("its device number is out of range");

  Entry entry;
  entry.type = *type;
  entry.path = std::move(header.path);
  entry.link = std::move(header.link);
  entry.mode = header.mode;
  entry.uid = static_cast<uint32_t>(header.uid);
  entry.gid = static_cast<uint32_t>(header.gid);
  entry.mtime = records.mtime.value_or(timespec{header.mtime, 0});
  entry.xattrs = std::move(records.xattrs);
  if (device) {
    entry.major = static_cast<uint32_t>(header.major);
    entry.minor = static_cast<uint32_t>(header.minor);
  }
  // Only files have content; some writers put the target's size in a link's header.
  if (entry.type == EntryType::file) entry.size = static_cast<uint64_t>(header.size);
  content_left_ = entry.size;
  padding_ = padding_after(entry.size);
  if (entry.type != EntryType::file) return entry;
  if (records.sparse) {
    if (!records.sparse->name.empty()) entry.path = std::move(records.sparse->name);
    entry.sparse = TRY(about(sparse_map(*records.sparse), "entry " + quoted(entry.path)));
  } else if (header.type == 'S') {
    entry.sparse = TRY(about(old_sparse_map(), "entry " + quoted(entry.path)));
  }
  return entry;
}

Result<SparseMap> TarReader::sparse_map(const PaxSparse& records) {
  if (!records.size) return bad_entry("the sparse file has no size");
  if (!TRY(records.has_map_in_content())) return make_sparse_map(records.numbers, *records.size, content_left_);
  SparseText text;
  for (bool goes_on = true; goes_on; content_left_ -= tar_block) {
    TarBlock block;
    if (content_left_ < tar_block || !TRY(stream_.read(block))) return bad_entry("the sparse file's map is truncated");
    goes_on = TRY(text.add(block));
  }
  return make_sparse_map(text.numbers(), *records.size, content_left_);
}

Result<SparseMap> TarReader::old_sparse_map() {
  std::vector<int64_t> numbers;
  int64_t size = 0;
  bool goes_on = TRY(read_sparse_header(block_, numbers, size));
  while (goes_on) {
    TarBlock block;
    if (!TRY(stream_.read(block))) return ended_early();
    goes_on = TRY(read_sparse_block(block, numbers));
  }
  return make_sparse_map(numbers, size, content_left_);
}

Result<std::span<const uint8_t>> TarReader::content(uint64_t most) {
  if (content_left_ == 0) return std::span<const uint8_t>{};
  std::span<const uint8_t> piece = TRY(stream_.take(std::min(most, content_left_)));
  if (piece.empty()) return ended_early();
  content_left_ -= piece.size();
  return piece;
}

}  // namespace keelson
