// Reads files from an image's layers, as a container would see them, without running anything.
//
// The image is untrusted: its passwd may be a FIFO, a device, a symlink to the host's file, or a sparse file of 5 GiB
// (CVE-2024-9676, CVE-2025-4437). So the kernel resolves names inside the layers' root, and only regular files are opened.
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

// The two ways to pass layers to overlayfs; only tests choose between them.
enum class LayerOption {
  automatic,  // one by one, or all in one page of mount options if the kernel does not support that
  page,
};

// The root of the layers: a detached read-only overlay mount that lives as long as its descriptor, or, for a single layer,
// the layer itself.
Result<Fd> open_layers(const std::vector<std::string>& layers, LayerOption option = LayerOption::automatic);

}  // namespace keelson
