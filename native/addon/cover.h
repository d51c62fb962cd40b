// The layer that lies over an image's layers and gives directories back the looks that the layers below have of them.
//
// Of a directory overlayfs shows owner, mode and attributes of the topmost layer that has it, which need not be one that
// says anything about it (unnamed.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Makes in the empty directory `into` what must lie over `layers` (top first), directories alone; how many, with `into`
// itself, or 0 when nothing must. No link is followed. Kind::invalid when there is too much to look at.
Result<uint64_t> cover_unnamed(const std::vector<std::string>& layers, const std::string& into);

// The same; there is too much, too, when more than `most_waiting` bytes of names wait in memory to be looked at.
Result<uint64_t> cover_unnamed_within(size_t most_waiting, const std::vector<std::string>& layers,
                                      const std::string& into);

}  // namespace keelson
