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
    Result<std::span<const uint8_t>> next = source_.next();
    if (!next) return next;
    chunk_ = *next;
    hash_.update(chunk_);
  }
  auto piece = chunk_.first(static_cast<size_t>(std::min<uint64_t>(most, chunk_.size())));
  chunk_ = chunk_.subspan(piece.size());
  return piece;
}

Status TarStream::read_exactly(std::span<uint8_t> into) {
  while (!into.empty()) {
    Result<std::span<const uint8_t>> piece = take(into.size());
    if (!piece) return std::unexpected(piece.error());
    if (piece->empty()) return ended_early();
    memcpy(into.data(), piece->data(), piece->size());
    into = into.subspan(piece->size());
  }
  return {};
}

Status TarStream::skip(uint64_t length) {
  while (length > 0) {
    Result<std::span<const uint8_t>> piece = take(length);
    if (!piece) return std::unexpected(piece.error());
    if (piece->empty()) return ended_early();
    length -= piece->size();
  }
  return {};
}

Status TarStream::drain() {
  for (;;) {
    Result<std::span<const uint8_t>> piece = take(UINT64_MAX);
    if (!piece) return std::unexpected(piece.error());
    if (piece->empty()) return {};
  }
}

}  // namespace keelson
