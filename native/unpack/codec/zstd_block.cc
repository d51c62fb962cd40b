// The literals section (RFC 8878, section 3.1.1.3.1), and a block as a whole.
#include "unpack/codec/zstd_block.h"

#include <algorithm>

#include "unpack/codec/bytes.h"
#include "unpack/codec/damaged.h"

namespace keelson {

namespace {

enum class LiteralsType : uint8_t { raw, run, coded, coded_with_last_tree };

struct LiteralsHeader {
  LiteralsType type;
  bool four_streams;
  size_t header_size;
  size_t size;        // decoded
  size_t coded_size;  // of tree and streams
};

// Section 3.1.1.3.1.1. The header may be cut short: the caller compares its size.
LiteralsHeader read_header(std::span<const uint8_t> block) {
  uint64_t bits = load_short(block.data(), std::min<size_t>(block.size(), 5));
  LiteralsType type = static_cast<LiteralsType>(bits & 3);
  unsigned format = (bits >> 2) & 3;
  if (type == LiteralsType::raw || type == LiteralsType::run) {
    unsigned header_size = format == 1 ? 2 : format == 3 ? 3 : 1;
    size_t size = (bits & ((uint64_t{1} << (8 * header_size)) - 1)) >> (header_size == 1 ? 3 : 4);
    return {type, false, header_size, size, type == LiteralsType::raw ? size : 1};
  }
  unsigned width = format < 2 ? 10 : format == 2 ? 14 : 18;
  uint64_t mask = (uint64_t{1} << width) - 1;
  return {type, format != 0, (4 + 2 * width + 7) / 8, (bits >> 4) & mask, (bits >> (4 + width)) & mask};
}

}  // namespace

void ZstdBlocks::begin_frame() {
  has_tree_ = false;
  sequences_.begin_frame();
}

Result<uint8_t*> ZstdBlocks::decode(std::span<const uint8_t> block, const ZstdWindow& window, uint8_t* to) {
  Result<ZstdLiterals> literals = read_literals(block, window.max_block());
  if (!literals) return std::unexpected(literals.error());
  return sequences_.run(block, *literals, window, to);
}

// Takes the section off the front of `block`.
Result<ZstdLiterals> ZstdBlocks::read_literals(std::span<const uint8_t>& block, size_t max_size) {
  if (block.empty()) return damaged("zstd", "a compressed block of no bytes");
  LiteralsHeader header = read_header(block);
  if (header.size > max_size) return damaged("zstd", "more literals than a block can have");
  if (header.header_size + header.coded_size > block.size()) return damaged("zstd", "literals that are cut short");
  std::span<const uint8_t> coded = block.subspan(header.header_size, header.coded_size);
  block = block.subspan(header.header_size + header.coded_size);

  switch (header.type) {
    case LiteralsType::raw: std::copy_n(coded.data(), header.size, literals_.data()); break;
    case LiteralsType::run: std::fill_n(literals_.data(), header.size, coded[0]); break;
    case LiteralsType::coded:
    case LiteralsType::coded_with_last_tree: {
      bool own_tree = header.type == LiteralsType::coded;
      Status read = read_coded_literals(coded, own_tree, header.four_streams, header.size);
      if (!read) return std::unexpected(read.error());
      break;
    }
  }
  return ZstdLiterals{literals_.data(), literals_.data() + header.size};
}

Status ZstdBlocks::read_coded_literals(std::span<const uint8_t> coded, bool own_tree, bool four_streams, size_t size) {
  if (own_tree) {
    has_tree_ = false;
    if (Status read = tree_.read(coded); !read) return read;
    has_tree_ = true;
  }
  if (!has_tree_) return damaged("zstd", "literals that repeat a Huffman tree before the first");
  std::span<uint8_t> output(literals_.data(), size);
  return four_streams ? tree_.decode_four(coded, output) : tree_.decode_one(coded, output);
}

}  // namespace keelson
