// Reading files out of an image's layers, as a container would see them, without running anything.
//
// The image is hostile: its passwd may be a FIFO, a device, a link to the host's,
// or 5 GiB of holes (CVE-2024-9676, CVE-2025-4437). So names are resolved by the
// kernel inside the layers' root, and nothing but a regular file is ever opened.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

struct MissingFile {};
struct NotRegularFile {};
struct TooLargeFile {
  uint64_t size = 0;
};
using LayerFile = std::variant<std::string, MissingFile, NotRegularFile, TooLargeFile>;

// One answer for each path. Layers are directories, top first, at least one.
Result<std::vector<LayerFile>> read_from_layers(const std::vector<std::string>& layers,
                                                const std::vector<std::string>& paths, size_t limit);

// The two ways to tell overlayfs its layers; only tests choose between them.
enum class LayerOption {
  automatic,  // one by one, and in one page where the kernel does not know that
  page,
};

// The root of the layers: a detached read-only overlay mount that goes with its
// descriptor, or the layer itself when there is one only.
Result<Fd> open_layers(const std::vector<std::string>& layers, LayerOption option = LayerOption::automatic);

}  // namespace keelson
