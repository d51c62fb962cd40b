// Sparse files in GNU tar's formats: a map says where in the file the bytes from the archive belong.
// Source: GNU tar's manual, "Storing Sparse Files"; the old format is sparse_header in tar.h.
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

// The maximum size of one map, in any format.
inline constexpr size_t max_sparse_bytes = 1024 * 1024;

struct SparsePiece {
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct SparseMap {
  std::vector<SparsePiece> pieces;  // in file order, not overlapping
  uint64_t size = 0;                // of the file, with its holes
};

// The PAX records of a sparse file (GNU.sparse.*, formats 0.0, 0.1 and 1.0).
struct PaxSparse {
  std::string name;  // the file's name; the entry's own name is made up
  std::string major, minor;
  std::optional<int64_t> size;
  std::vector<int64_t> numbers;  // offset, length, offset, length …

  // Fails with kind `invalid` for an unknown key, or a value that is not a number.
  Status add(std::string_view key, std::string_view value);
  // True for format 1.0: the content starts with the map.
  Result<bool> has_map_in_content() const;
};

// The map of a file of `size` bytes. Fails with kind `invalid` if pieces are out of order, overlap or exceed the file, or if
// their total length is not `content`.
Result<SparseMap> make_sparse_map(std::span<const int64_t> numbers, int64_t size, uint64_t content);

// The map of format 1.0: lines of decimal numbers, the first of which is the number of pieces. Parsed block by block.
class SparseText {
 public:
  // Whether the map continues in another block. Fails with kind `invalid` for anything that is not a number, with kind
  // `limit` past the maximum size.
  Result<bool> add(const TarBlock& block);
  std::span<const int64_t> numbers() const { return std::span(numbers_).subspan(1); }

 private:
  std::vector<int64_t> numbers_;
  std::string line_;
  size_t bytes_ = 0;
};

// The old format: up to four pieces in the header, more in the blocks after it. These append to `numbers` and return whether
// another block follows.
Result<bool> read_sparse_header(const TarBlock& header, std::vector<int64_t>& numbers, int64_t& size);
Result<bool> read_sparse_block(const TarBlock& block, std::vector<int64_t>& numbers);

}  // namespace keelson
