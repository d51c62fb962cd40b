#include "unpack/tar_stream.h"

#include <algorithm>
#include <cstring>

namespace keelson {

namespace {

std::unexpected<Error> ended_early() {
  return fail(Kind::invalid, "read the tar stream", "it ends early");
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

Status TarStream::read_exactly(std::span<uint8_t> into) {
  while (!into.empty()) {
    std::span<const uint8_t> piece = TRY(take(into.size()));
    if (piece.empty()) return ended_early();
    memcpy(into.data(), piece.data(), piece.size());
    into = into.subspan(piece.size());
  }
  return {};
}

Status TarStream::skip(uint64_t length) {
  while (length > 0) {
    std::span<const uint8_t> piece = TRY(take(length));
    if (piece.empty()) return ended_early();
    length -= piece.size();
  }
  return {};
}

Status TarStream::drain() {
  for (;;) {
    std::span<const uint8_t> piece = TRY(take(UINT64_MAX));
    if (piece.empty()) return {};
  }
}

}  // namespace keelson
