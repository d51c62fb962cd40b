// Sparse files in GNU tar's forms: a map says where in the file the bytes go that the archive has of it.
// Source: GNU tar's manual, "Storing Sparse Files"; the old form is tar.h's sparse_header.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "unpack/tar_header.h"

namespace keelson {

// The text of one map may not be longer, whatever its form.
inline constexpr size_t max_sparse_bytes = 1024 * 1024;

struct SparsePiece {
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct SparseMap {
  std::vector<SparsePiece> pieces;  // in their order in the file, none over another
  uint64_t size = 0;                // of the whole file
};

// What PAX records say (GNU.sparse.*, forms 0.0, 0.1 and 1.0).
struct PaxSparse {
  std::string name;  // of the file; the entry's own is made up
  std::string major, minor;
  std::optional<int64_t> size;
  std::vector<int64_t> numbers;  // offset and length by turns

  // Fails with kind `invalid` for a key that no form has, or no number.
  Status add(std::string_view key, std::string_view value);
  // Form 1.0: the map is the content's beginning.
  Result<bool> has_map_in_content() const;
};

// The pieces of `size` bytes. Fails with kind `invalid` unless they are as SparseMap has them and hold
// `content` bytes together.
Result<SparseMap> make_sparse_map(std::span<const int64_t> numbers, int64_t size, uint64_t content);

// Form 1.0's map: lines of decimal numbers, of which the first says how many pieces follow. Fed by blocks.
class SparseText {
 public:
  // Whether the map goes on in another block. Fails with kind `invalid` for what is no number, `limit` past the bound.
  Result<bool> add(const TarBlock& block);
  std::span<const int64_t> numbers() const { return std::span(numbers_).subspan(1); }

 private:
  std::vector<int64_t> numbers_;
  std::string line_;
  size_t bytes_ = 0;
};

// The old form's: up to four pieces in the header, more in blocks behind it. Adds to `numbers`; whether a block follows.
Result<bool> read_sparse_header(const TarBlock& header, std::vector<int64_t>& numbers, int64_t& size);
Result<bool> read_sparse_block(const TarBlock& block, std::vector<int64_t>& numbers);

}  // namespace keelson
