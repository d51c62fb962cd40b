// Creates files from a layer's entries, in the form that overlayfs expects of a lower directory.
//
// Limits: inodes (layer_root.h), paths (layer_path.h), links followed to a missing parent (40, like the kernel's limit),
// memory for directories' times, which are set at the end (64 MiB).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "unpack/layer_root.h"
#include "unpack/tar_reader.h"

namespace keelson {

class LayerWriter {
 public:
  // `root`: descriptor of the layer's empty directory, open for reading; the caller keeps ownership.
  LayerWriter(int root, uint64_t max_inodes) : root_(root, max_inodes) {}

  // Creates the entry; reads a file's content from `reader`. A later entry of the same name replaces an earlier one, except
  // that two directories are merged (layer.md, "Representing Changes").
  Status write(const Entry& entry, TarReader& reader);
  // Must be called once after the last entry: sets the directories' times.
  Status finish();

  uint64_t inodes() const { return root_.inodes(); }
  uint64_t content_bytes() const { return content_bytes_; }

 private:
  struct DirectoryTime {
    std::string path;
    timespec mtime;
  };

  Status write_at(const Entry& entry, const LayerPath& path, TarReader& reader);
  Status write_whiteout(int parent, std::string name);
  Status write_directory(const Entry& entry, const LayerPath& path, int parent);
  Status write_root(const Entry& entry);
  Status write_file(const Entry& entry, int parent, const char* name, TarReader& reader);
  Status write_content(int file, const Entry& entry, TarReader& reader);
  Status write_hard_link(const Entry& entry, int parent, const char* name);
  Status write_symlink(const Entry& entry, int parent, const char* name);
  Status write_node(const Entry& entry, int parent, const char* name);
  Status remember_time(const Entry& entry, const std::string& path);
  Result<int> make(int parent, const char* name, const char* step, const std::function<int()>& call);

  LayerRoot root_;
  uint64_t content_bytes_ = 0;
  std::vector<DirectoryTime> directory_times_;
  size_t directory_time_bytes_ = 0;
};

}  // namespace keelson
