#include "unpack/sparse.h"

#include <algorithm>
#include <charconv>

namespace keelson {

namespace {

std::unexpected<Error> bad_map(std::string detail) {
  return fail(Kind::invalid, "read the sparse file's map", std::move(detail));
}

std::unexpected<Error> long_map() {
  return fail(Kind::limit, "read the sparse file's map", "it is larger than 1 MiB");
}

Result<int64_t> parse_sparse_number(std::string_view text) {
  int64_t number = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size()) return bad_map("it contains something other than numbers");
  return number;
}

// The old format's fields, twelve bytes each.
constexpr size_t number_size = 12;
constexpr size_t header_pieces_at = 386;
constexpr size_t header_pieces = 4;
constexpr size_t header_more_at = 482;
constexpr size_t header_size_at = 483;
constexpr size_t block_pieces = 21;
constexpr size_t block_more_at = 504;

Result<int64_t> number_at(const TarBlock& block, size_t at) {
  std::optional<int64_t> number = parse_tar_number({reinterpret_cast<const char*>(block.data()) + at, number_size});
  if (!number) return bad_map("it contains something other than numbers");
  return *number;
}

Status read_pieces(const TarBlock& block, size_t at, size_t count, std::vector<int64_t>& numbers) {
  for (size_t piece = 0; piece < count; ++piece, at += 2 * number_size) {
    if (block[at] == 0) return {};
    numbers.push_back(TRY(number_at(block, at)));
    numbers.push_back(TRY(number_at(block, at + number_size)));
  }
  return {};
}

}  // namespace

Status PaxSparse::add(std::string_view key, std::string_view value) {
  if (key == "name") name = value;
  else if (key == "major") major = value;
  else if (key == "minor") minor = value;
  else if (key == "size" || key == "realsize") size = TRY(parse_sparse_number(value));
  else if (key == "offset" || key == "numbytes") {
    const bool is_turn = (numbers.size() % 2 == 0) == (key == "offset");
    if (!is_turn) return bad_map("offsets and lengths do not alternate");
    numbers.push_back(TRY(parse_sparse_number(value)));
  } else if (key == "map") {
    numbers.clear();
    while (!value.empty()) {
      const size_t comma = std::min(value.find(','), value.size());
      numbers.push_back(TRY(parse_sparse_number(value.substr(0, comma))));
      value.remove_prefix(std::min(comma + 1, value.size()));
    }
  } else if (key != "numblocks") {
    return bad_map("its format is not supported");
  }
  return {};
}

Result<bool> PaxSparse::has_map_in_content() const {
  if (major == "1" && minor == "0") return true;
  const bool is_older = major.empty() || (major == "0" && (minor == "0" || minor == "1"));
  if (!is_older) return bad_map("its format is not supported");
  return false;
}

Result<SparseMap> make_sparse_map(std::span<const int64_t> numbers, int64_t size, uint64_t content) {
  if (numbers.size() % 2 != 0) return bad_map("an offset has no length");
  if (size < 0) return bad_map("the file's size is negative");
  SparseMap map{.pieces = {}, .size = static_cast<uint64_t>(size)};
  uint64_t end = 0;
  uint64_t held = 0;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    if (numbers[i] < 0 || numbers[i + 1] < 0) return bad_map("it has a negative number");
    const SparsePiece piece{static_cast<uint64_t>(numbers[i]), static_cast<uint64_t>(numbers[i + 1])};
    // The sum of two non-negative int64_t does not overflow uint64_t.
    if (piece.offset < end || piece.offset + piece.length > map.size) {
      return bad_map("a piece overlaps another or exceeds the file");
    }
    end = piece.offset + piece.length;
    held += piece.length;
    map.pieces.push_back(piece);
  }
  if (held != content) {
    return bad_map("its pieces have " + std::to_string(held) + " bytes and the archive has " + std::to_string(content));
  }
  return map;
}

Result<bool> SparseText::add(const TarBlock& block) {
  bytes_ += block.size();
  if (bytes_ > max_sparse_bytes) return long_map();
  for (uint8_t byte : block) {
    if (!numbers_.empty() && numbers_.size() > 2 * static_cast<uint64_t>(numbers_[0])) return false;
    if (byte != '\n') {
      line_ += static_cast<char>(byte);
      continue;
    }
    numbers_.push_back(TRY(parse_sparse_number(line_)));
    line_.clear();
    if (numbers_[0] < 0 || static_cast<uint64_t>(numbers_[0]) > max_sparse_bytes) return long_map();
  }
  return numbers_.empty() || numbers_.size() <= 2 * static_cast<uint64_t>(numbers_[0]);
}

Result<bool> read_sparse_header(const TarBlock& header, std::vector<int64_t>& numbers, int64_t& size) {
  size = TRY(number_at(header, header_size_at));
  TRY(read_pieces(header, header_pieces_at, header_pieces, numbers));
  return header[header_more_at] != 0;
}

Result<bool> read_sparse_block(const TarBlock& block, std::vector<int64_t>& numbers) {
  if (numbers.size() * number_size > max_sparse_bytes) return long_map();
  TRY(read_pieces(block, 0, block_pieces, numbers));
  return block[block_more_at] != 0;
}

}  // namespace keelson
