// Decodes one gzip member (RFC 1952) with ISA-L.
#pragma once

#include <memory>

#include "unpack/codec/decoder.h"

namespace keelson {

// Memory: 0.1 MiB, whatever the stream.
std::unique_ptr<MemberDecoder> make_gzip_decoder();

}  // namespace keelson
