// One zstd frame, or one skippable frame (RFC 8878), by libzstd.
#pragma once

#include <memory>

#include "unpack/codec/decoder.h"

namespace keelson {

// Memory: the largest window of the frames that came, at most 128 MiB and used as it fills, and 0.5 MiB.
std::unique_ptr<MemberDecoder> make_zstd_decoder();

}  // namespace keelson
