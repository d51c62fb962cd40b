// The cover: a layer on top of an image's layers that restores the metadata of directories.
//
// overlayfs shows a directory with the owner, mode and attributes that it has in the topmost layer that contains it. That
// layer's archive may have no entry for the directory (unnamed.h); then the metadata must come from a layer below.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace keelson {

// Creates the cover of `layers` (top first) in the empty directory `into`; it has only directories. Returns how many,
// including `into` itself, or 0 when no cover is needed. Follows no links. Kind::invalid when there is too much to check.
Result<uint64_t> cover_unnamed(const std::vector<std::string>& layers, const std::string& into);

// The same, with a limit: fails also when more than `most_waiting` bytes of names are pending in memory.
Result<uint64_t> cover_unnamed_within(size_t most_waiting, const std::vector<std::string>& layers,
                                      const std::string& into);

}  // namespace keelson
