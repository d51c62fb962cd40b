// Reads the entries of a tar stream one after another, with long names and PAX records applied, and hashes the stream.
//
// Limits: a name or PAX header (max_pax_bytes), global records (max_global_bytes), attributes of one entry (max_xattrs), a
// sparse file's map (max_sparse_bytes); elsewhere: paths and their depth in layer_path.h, inodes in layer_root.h, the size
// of the stream in intake.h. Takes memory for one entry and time linear in the size of the stream.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "unpack/buffer_ring.h"
#include "unpack/codec/sha256.h"
#include "unpack/pax.h"
#include "unpack/tar_header.h"

namespace keelson {

enum class EntryType { file, hard_link, symlink, character_device, block_device, directory, fifo };

struct Entry {
  EntryType type = EntryType::file;
  std::string path;  // as in the archive
  std::string link;  // target of hard and symbolic links, as in the archive
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  timespec mtime{};
  uint64_t size = 0;  // of the content that follows; 0 except for files
  uint32_t major = 0;
  uint32_t minor = 0;
  std::vector<Xattr> xattrs;
  std::optional<SparseMap> sparse;  // where the content of a sparse file belongs
};

// Reads an exact number of bytes, or spans without copying.
class TarStream {
 public:
  explicit TarStream(ChunkSource& source) : source_(source) {}

  // At least one and at most `most` bytes (most > 0), valid until the next call; empty at the end of the stream.
  Result<std::span<const uint8_t>> take(uint64_t most);
  // Reads exactly into.size() bytes. Returns false if the stream has ended before the first; fails with kind `invalid` if
  // it ends in between.
  Result<bool> read(std::span<uint8_t> into);
  Status skip(uint64_t length);
  // Reads the rest and returns the SHA-256 of all bytes. Call it once, as the last.
  Result<std::array<uint8_t, 32>> drain();

 private:
  ChunkSource& source_;
  std::span<const uint8_t> chunk_;
  Sha256 hash_;
};

class TarReader {
 public:
  explicit TarReader(ChunkSource& source) : stream_(source) {}

  // The next entry; skips content of the previous one that was not read. Nothing after the last entry. A stream that ends
  // inside an entry fails as truncated.
  Result<std::optional<Entry>> next();
  // The next piece of the current entry's content, of at most `most` bytes, valid until the next call; empty at its end.
  Result<std::span<const uint8_t>> content(uint64_t most = UINT64_MAX);
  // Reads the rest after the last entry and returns the SHA-256 of the whole stream. Call it once, as the last.
  Result<std::array<uint8_t, 32>> finish() { return stream_.drain(); }

 private:
  Result<std::optional<TarHeader>> header();
  Result<std::string> extension(const TarHeader& header);
  Status add_globals(const TarHeader& header);
  Result<Entry> entry(TarHeader header, PaxRecords records);
  Result<SparseMap> sparse_map(const PaxSparse& records);
  Result<SparseMap> old_sparse_map();

  TarStream stream_;
  TarBlock block_{};  // the last header
  PaxRecords globals_;
  uint64_t content_left_ = 0;
  uint64_t padding_ = 0;  // from the end of the content to the next block
};

}  // namespace keelson
