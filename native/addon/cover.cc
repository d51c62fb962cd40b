#include "addon/cover.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <map>
#include <set>
#include <span>
#include <string_view>

#include "common/fd.h"
#include "common/file.h"
#include "common/overlayfs.h"
#include "common/tree.h"
#include "common/unnamed.h"

namespace keelson {

namespace {

// A few seconds of work; real images need thousands.
constexpr uint64_t max_lookups = 1'000'000;
// In the daemon's memory: enough for a hundred thousand directories in one parent.
constexpr size_t most_waiting_bytes = 8 * 1024 * 1024;

// A directory's metadata that a container sees, except times.
struct Metadata {
  uid_t uid;
  gid_t gid;
  mode_t mode;
  std::map<std::string, std::string> attributes;

  bool operator==(const Metadata&) const = default;
};

// trusted.* belongs to the host. Of security.*, a directory has at most a label, which depends on where it is.
bool is_seen(std::string_view attribute) {
  return attribute.starts_with("user.") || attribute.starts_with("system.posix_acl_");
}

Result<std::map<std::string, std::string>> attributes_of(int directory) {
  std::string names(XATTR_LIST_MAX, '\0');
  ssize_t size = ::flistxattr(directory, names.data(), names.size());
  if (size < 0 && errno == EOPNOTSUPP) size = 0;
  if (size < 0) return fail_errno("list attributes");
  std::map<std::string, std::string> attributes;
  std::string value(XATTR_SIZE_MAX, '\0');
  for (size_t at = 0; at < static_cast<size_t>(size);) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    if (!is_seen(name)) continue;
    ssize_t length = ::fgetxattr(directory, name.c_str(), value.data(), value.size());
    if (length < 0) return fail_errno("read the attribute " + name);
    attributes[name] = value.substr(0, static_cast<size_t>(length));
  }
  return attributes;
}

Result<Metadata> metadata_of(int directory) {
  struct stat status {};
  if (::fstat(directory, &status) != 0) return fail_errno("stat");
  return Metadata{status.st_uid, status.st_gid, status.st_mode & 07777, TRY(attributes_of(directory))};
}

Status apply_metadata(int directory, const Metadata& metadata) {
  if (::fchown(directory, metadata.uid, metadata.gid) != 0) return fail_errno("chown");
  if (::fchmod(directory, metadata.mode) != 0) return fail_errno("chmod");
  for (const auto& [name, value] : metadata.attributes) {
    if (::fsetxattr(directory, name.c_str(), value.data(), value.size(), 0) != 0) {
      return fail_errno("set the attribute " + name);
    }
  }
  return {};
}

class Cover {
 public:
  Cover(std::vector<Fd> layers, Fd into, size_t most_waiting)
      : layers_(std::move(layers)), into_(std::move(into)), most_waiting_(most_waiting) {}

  Result<uint64_t> run() {
    Stack all;
    for (size_t layer = 0; layer < layers_.size(); ++layer) all.layers.push_back(layer);
    all.merged = layers_.size();
    TRY(enter("", std::move(all)));
    // Not recursive: the thread's stack is small, and a layer may be deep.
    while (!way_.empty()) TRY(go_on());
    return made_;
  }

 private:
  // The layers that contain one directory, topmost first, down to the first that has something else at its path.
  struct Stack {
    std::vector<size_t> layers;
    size_t merged = 0;  // how many of them contribute entries: up to and including the first opaque one

    std::span<const size_t> shown() const { return std::span(layers).first(merged); }
  };

  // A directory on the way down to the current one.
  struct Place {
    std::string path;
    Stack stack;
    size_t model = 0;                // the layer that has its correct metadata
    Fd made;                         // the directory in the cover, once it is needed there
    std::set<std::string> unvisited;  // marked directories in it, still to be checked
  };

  Status enter(const std::string& path, Stack stack) {
    const size_t shown = stack.layers.front();
    const size_t model = TRY(model_of(path, stack.layers));
    std::set<std::string> marked = TRY(marked_in(path, stack.shown()));
    way_.push_back({path, std::move(stack), model, Fd(), std::move(marked)});
    if (TRY(metadata_differs(path, shown, model))) TRY(make_way());
    return {};
  }

  // Descends into the next directory, or goes back up.
  Status go_on() {
    Place& place = way_.back();
    if (place.unvisited.empty()) {
      if (place.made) TRY(give_times(place));
      way_.pop_back();
      return {};
    }
    const std::string deeper = below(place.path, *place.unvisited.begin());
    waiting_ -= weight(*place.unvisited.begin());
    place.unvisited.erase(place.unvisited.begin());
    Stack having = TRY(stack_at(deeper, place.stack.shown()));
    return having.layers.size() > 1 ? enter(deeper, std::move(having)) : Status{};
  }

  // The topmost layer whose archive has an entry for it, or else the topmost layer.
  Result<size_t> model_of(const std::string& path, const std::vector<size_t>& layers) {
    for (size_t layer : layers) {
      Fd directory = TRY(open(layer, path));
      if (mark_of(directory.get()) != Mark::unnamed) return layer;
    }
    return layers.front();
  }

  Result<bool> metadata_differs(const std::string& path, size_t shown, size_t model) {
    if (shown == model) return false;
    const Metadata wrong = TRY(metadata_in(shown, path));
    const Metadata right = TRY(metadata_in(model, path));
    return wrong != right;
  }

  // The names of the marked directories in it.
  Result<std::set<std::string>> marked_in(const std::string& path, std::span<const size_t> layers) {
    std::set<std::string> names;
    for (size_t layer : layers) {
      Fd directory = TRY(open(layer, path));
      if (mark_of(directory.get()) == Mark::none) continue;
      auto look = [&](const dirent64& found) -> Result<bool> {
        if (found.d_type != DT_DIR && found.d_type != DT_UNKNOWN) return true;
        Fd deeper = TRY(find(layer, below(path, found.d_name)));
        if (!deeper || mark_of(deeper.get()) == Mark::none) return true;
        const auto [added, is_new] = names.insert(found.d_name);
        if (is_new) waiting_ += weight(*added);
        return waiting_ <= most_waiting_ ? Result<bool>(true) : too_many();
      };
      TRY(each_entry(directory.get(), path, look));
    }
    return names;
  }

  // Empty when the topmost layer has something else there. An opaque directory without an archive entry hides the content of
  // those below but has their metadata; one that replaces something removed counts as named.
  Result<Stack> stack_at(const std::string& path, std::span<const size_t> layers) {
    Stack stack;
    bool is_hidden = false;
    for (size_t layer : layers) {
      errno = 0;
      Fd directory = TRY(find(layer, path));
      if (!directory && errno == ENOENT) continue;
      if (!directory) break;
      stack.layers.push_back(layer);
      if (!is_hidden) ++stack.merged;
      is_hidden = is_hidden || is_opaque(directory.get());
    }
    return stack;
  }

  Status make_way() {
    for (Place& place : way_) {
      if (place.made) continue;
      if (!place.path.empty() && ::mkdirat(into_.get(), place.path.c_str(), 0700) != 0) {
        return about(fail_errno("mkdir"), place.path);
      }
      place.made = open_resolved(into_.get(), place.path.empty() ? "." : place.path.c_str(), directory_flags, resolve);
      if (!place.made) return about(fail_errno("open"), place.path);
      ++made_;
      const Metadata metadata = TRY(metadata_in(place.model, place.path));
      TRY(about(apply_metadata(place.made.get(), metadata), place.path));
    }
    return {};
  }

  // Called after everything in it has been created, which changes its times.
  Status give_times(const Place& place) {
    Fd directory = TRY(open(place.model, place.path));
    struct stat model {};
    if (::fstat(directory.get(), &model) != 0) return fail_errno("stat");
    const timespec times[2] = {model.st_atim, model.st_mtim};
    if (::futimens(place.made.get(), times) != 0) return about(fail_errno("set times"), place.path);
    return {};
  }

  Result<Metadata> metadata_in(size_t layer, const std::string& path) {
    Fd directory = TRY(open(layer, path));
    return about(metadata_of(directory.get()), path);
  }

  Result<Fd> open(size_t layer, const std::string& path) {
    Fd directory = TRY(find(layer, path));
    if (!directory) return about(fail_errno("open directory"), path);
    return directory;
  }

  // No Fd, with errno set, when there is no such directory.
  Result<Fd> find(size_t layer, const std::string& path) {
    if (++lookups_ > max_lookups) return too_many();
    Fd directory = open_resolved(layers_[layer].get(), path.empty() ? "." : path.c_str(), directory_flags, resolve);
    if (directory || errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return directory;
    return about(fail_errno("open directory"), path);
  }

  static std::unexpected<Error> too_many() {
    return fail(Kind::invalid, "check the layers' directories", "too many of them have no entry in their layer's archive");
  }

  // Bytes of memory that a pending name takes.
  static size_t weight(const std::string& name) { return 2 * sizeof name + name.size(); }

  static std::string below(const std::string& directory, const std::string& name) {
    return directory.empty() ? name : directory + "/" + name;
  }

  static constexpr uint64_t directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  static constexpr uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;

  std::vector<Fd> layers_;
  Fd into_;
  std::vector<Place> way_;
  size_t most_waiting_;
  size_t waiting_ = 0;  // bytes of pending names
  uint64_t lookups_ = 0;
  uint64_t made_ = 0;
};

}  // namespace

Result<uint64_t> cover_unnamed(const std::vector<std::string>& layers, const std::string& into) {
  return cover_unnamed_within(most_waiting_bytes, layers, into);
}

Result<uint64_t> cover_unnamed_within(size_t most_waiting, const std::vector<std::string>& layers,
                                      const std::string& into) {
  std::vector<Fd> opened;
  for (const std::string& path : layers) opened.push_back(TRY(open_file(path, O_PATH | O_DIRECTORY)));
  Cover cover(std::move(opened), TRY(open_file(into, O_PATH | O_DIRECTORY | O_NOFOLLOW)), most_waiting);
  return cover.run();
}

}  // namespace keelson
