// Decodes one zstd frame or skippable frame (RFC 8878) with libzstd.
#pragma once

#include <memory>

#include "unpack/codec/decoder.h"

namespace keelson {

// Memory: 0.5 MiB plus the largest window of all frames so far, at most 128 MiB, which becomes resident as it fills.
std::unique_ptr<MemberDecoder> make_zstd_decoder();

}  // namespace keelson
