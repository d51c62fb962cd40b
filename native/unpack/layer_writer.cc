#include "unpack/layer_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/file.h"
#include "common/overlayfs.h"
#include "common/unnamed.h"

namespace keelson {

namespace {

// Room for the paths of about half a million directories.
constexpr size_t max_directory_time_bytes = 64 * 1024 * 1024;

mode_t node_type(EntryType type) {
  switch (type) {
    case EntryType::character_device: return S_IFCHR;
    case EntryType::block_device: return S_IFBLK;
    default: return S_IFIFO;
  }
}

// trusted.* affects the host, above all overlayfs (with redirect, metacopy and opaque a layer could reach into other
// directories), and containers do not see it; user.overlay.* is the same for unprivileged overlayfs. Both are skipped, as
// if the archive had been created inside a container.
bool is_for_the_host(const std::string& name) {
  return name.starts_with("trusted.") || name.starts_with("user.overlay.");
}

// Attributes that the file system does not support are skipped, as in containerd: layers built on other systems have
// attributes of those systems (com.apple.provenance, system.nfs4_acl).
Status has_set(int result, const std::string& name) {
  if (result == 0 || errno == EOPNOTSUPP) return {};
  return fail_errno("set the attribute " + quoted(name));
}

// xattr(7): only files and directories can have user.* attributes.
bool fits_node(const std::string& name) { return !name.starts_with("user."); }

// Sets those attributes of an open file or directory that it was not created with, except times (later writes would change
// them again). The order matters: chown(2) clears setuid, setgid and file capabilities.
Status set_attributes(int fd, const Entry& entry) {
  struct stat made {};
  if (fstat(fd, &made) != 0) return fail_errno("stat");
  const bool is_owned = made.st_uid == entry.uid && made.st_gid == entry.gid;
  if (!is_owned && fchown(fd, entry.uid, entry.gid) != 0) return fail_errno("set the owner");
  const bool has_mode = is_owned && (made.st_mode & 07777) == entry.mode;
  if (!has_mode && fchmod(fd, entry.mode) != 0) return fail_errno("set the mode");
  for (const Xattr& xattr : entry.xattrs) {
    if (is_for_the_host(xattr.name)) continue;
    TRY(has_set(fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0), xattr.name));
  }
  return {};
}

// The same for what is not opened: a symbolic link, device or FIFO. Affects `name` in `parent` itself, never its target.
// Leaves the mode as mknod(2) set it: before fchmodat2(2), Linux 6.6, no call can set it without following links.
Status set_attributes_of_node(int parent, const char* name, const Entry& entry) {
  if (fchownat(parent, name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("set the owner");
  for (const Xattr& xattr : entry.xattrs) {
    if (is_for_the_host(xattr.name) || !fits_node(xattr.name)) continue;
    // There is no setxattrat(2) before Linux 6.13. Nothing else here depends on the working directory.
    if (fchdir(parent) != 0) return fail_errno("enter the directory");
    TRY(has_set(lsetxattr(name, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0), xattr.name));
  }
  const timespec times[2] = {entry.mtime, entry.mtime};
  if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("set the times");
  return {};
}

// Sets the access time to the modification time too: layers have no access time.
Status set_times(int fd, timespec mtime) {
  const timespec times[2] = {mtime, mtime};
  if (futimens(fd, times) != 0) return fail_errno("set the times");
  return {};
}

}  // namespace

Status LayerWriter::write(const Entry& entry, TarReader& reader) {
  Result<LayerPath> path = LayerPath::parse(entry.path);
  Status written = path ? write_at(entry, *path, reader) : std::unexpected(path.error());
  return written ? written : about(std::move(written), "entry " + quoted(entry.path));
}

Status LayerWriter::write_at(const Entry& entry, const LayerPath& path, TarReader& reader) {
  if (path.is_root()) return write_root(entry);
  Whiteout whiteout = TRY(classify_whiteout(path.text()));
  if (whiteout.kind == WhiteoutKind::bookkeeping) return {};
  if (whiteout.kind == WhiteoutKind::opaque && path.parent().empty()) {
    // overlayfs always merges a layer's root, whatever its attributes: the layers below would stay visible.
    return fail(Kind::invalid, "read the whiteout", "it hides the whole image below, which overlayfs cannot express");
  }
  int parent = TRY(root_.parent_of(path));
  if (whiteout.kind == WhiteoutKind::opaque) return make_opaque(parent);
  if (whiteout.kind == WhiteoutKind::remove) return write_whiteout(parent, std::string(whiteout.name));
  switch (entry.type) {
    case EntryType::directory: return write_directory(entry, path, parent);
    case EntryType::file: return write_file(entry, parent, path.name(), reader);
    case EntryType::hard_link: return write_hard_link(entry, parent, path.name());
    case EntryType::symlink: return write_symlink(entry, parent, path.name());
    case EntryType::character_device:
    case EntryType::block_device:
    case EntryType::fifo: return write_node(entry, parent, path.name());
  }
  return {};
}

// A whiteout hides only what the layers below have: what this layer itself has under that name stays. If that is a
// directory, it becomes opaque.
Status LayerWriter::write_whiteout(int parent, std::string name) {
  TRY(root_.take_inode());
  if (mknodat(parent, name.c_str(), S_IFCHR, makedev(0, 0)) == 0) return mark_has_whiteouts(parent);
  if (errno != EEXIST) return fail_errno("create the whiteout");
  Fd present(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (present) {
    TRY(mark_named(present.get()));
    return make_opaque(present.get());
  }
  if (errno == ENOTDIR || errno == ELOOP) return {};
  return fail_errno("open the file that the whiteout names");
}

// The root keeps the owner and mode that all layers' roots have, as with other runtimes: its entry is often that of the
// private directory (0700) in which the layer was packed, and no user but root could then open anything in the container.
Status LayerWriter::write_root(const Entry& entry) {
  if (entry.type != EntryType::directory) {
    return fail(Kind::invalid, "create the entry", "it is the layer's root but not a directory");
  }
  return remember_time(entry, "");
}

Status LayerWriter::write_directory(const Entry& entry, const LayerPath& path, int parent) {
  Fd directory = TRY(root_.make_directory(parent, path.name()));
  TRY(mark_named(directory.get()));
  TRY(remember_time(entry, path.text()));
  TRY(set_attributes(directory.get(), entry));
  root_.remember(path.text(), std::move(directory));
  return {};
}

Status LayerWriter::remember_time(const Entry& entry, const std::string& path) {
  directory_time_bytes_ += sizeof(DirectoryTime) + path.size();
  if (directory_time_bytes_ > max_directory_time_bytes) {
    return fail(Kind::limit, "remember the directory's times", "the directories' names take more than 64 MiB");
  }
  directory_times_.push_back({path, entry.mtime});
  return {};
}

// Runs `call`, which creates `name`; if that already exists, removes it and tries again.
Result<int> LayerWriter::make(int parent, const char* name, const char* step, const std::function<int()>& call) {
  TRY(root_.take_inode());
  int made = call();
  if (made < 0 && errno == EEXIST) {
    TRY(root_.remove(parent, name));
    made = call();
  }
  if (made < 0) return fail_errno(step);
  return made;
}

Status LayerWriter::write_file(const Entry& entry, int parent, const char* name, TarReader& reader) {
  Fd file(TRY(make(parent, name, "create the file", [&] {
    return openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry.mode & 0777);
  })));
  TRY(write_content(file.get(), entry, reader));
  TRY(set_attributes(file.get(), entry));
  return set_times(file.get(), entry.mtime);
}

// Parts of a sparse file that are not in the archive stay holes.
Status LayerWriter::write_content(int file, const Entry& entry, TarReader& reader) {
  const SparseMap whole{.pieces = {{.offset = 0, .length = entry.size}}, .size = entry.size};
  for (const SparsePiece& piece : (entry.sparse ? *entry.sparse : whole).pieces) {
    if (entry.sparse && lseek(file, static_cast<off_t>(piece.offset), SEEK_SET) < 0) return fail_errno("seek in the file");
    for (uint64_t left = piece.length; left > 0;) {
      std::span<const uint8_t> bytes = TRY(reader.content(left));
      TRY(write_all(file, bytes, "write the file"));
      content_bytes_ += bytes.size();
      left -= bytes.size();
    }
  }
  if (entry.sparse && ftruncate(file, static_cast<off_t>(entry.sparse->size)) != 0) return fail_errno("set the file's size");
  return {};
}

// The target must be in this layer: hard links cannot cross layers. Owner, mode and times are the target's; the entry has
// the same ones in any sane archive.
Status LayerWriter::write_hard_link(const Entry& entry, int parent, const char* name) {
  std::string step = "link to " + quoted(entry.link);
  Result<LayerPath> target = LayerPath::parse(entry.link);
  if (!target) return fail(target.error().kind, step, target.error().detail);
  if (target->is_root()) return fail(Kind::invalid, step, "the target is the layer's root");
  Result<Fd> directory = root_.open_directory(target->parent(), true);
  struct stat status {};
  bool found = directory && fstatat(directory->get(), target->name(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  if (!found || is_whiteout(status)) return fail(Kind::invalid, step, "the target is not in this layer");
  if (S_ISDIR(status.st_mode)) return fail(Kind::invalid, step, "the target is a directory");

  struct stat present {};
  bool same = fstatat(parent, name, &present, AT_SYMLINK_NOFOLLOW) == 0 && present.st_ino == status.st_ino;
  if (same) return {};
  TRY(make(parent, name, step.c_str(), [&] {
    return linkat(directory->get(), target->name(), parent, name, 0);
  }));
  return {};
}

Status LayerWriter::write_symlink(const Entry& entry, int parent, const char* name) {
  if (entry.link.empty() || entry.link.find('\0') != entry.link.npos) {
    return fail(Kind::invalid, "create the symbolic link", "its target is empty or contains a NUL byte");
  }
  TRY(make(parent, name, "create the symbolic link", [&] { return symlinkat(entry.link.c_str(), parent, name); }));
  return set_attributes_of_node(parent, name, entry);
}

Status LayerWriter::write_node(const Entry& entry, int parent, const char* name) {
  dev_t device = makedev(entry.major, entry.minor);
  if (entry.type == EntryType::character_device && device == makedev(0, 0)) {
    return fail(Kind::invalid, "create the device", "0:0 is overlayfs's marker for a removed file");
  }
  mode_t mode = node_type(entry.type) | entry.mode;  // the umask is 0
  TRY(make(parent, name, "create the node", [&] { return mknodat(parent, name, mode, device); }));
  return set_attributes_of_node(parent, name, entry);
}

// Times are set at the end, because every file created in a directory changes them. A directory that a later entry replaced
// is skipped.
Status LayerWriter::finish() {
  for (const DirectoryTime& wanted : directory_times_) {
    Result<Fd> directory = root_.open_directory(wanted.path, false);
    if (!directory && directory.error().kind == Kind::not_found) continue;
    Status set = directory ? set_times(directory->get(), wanted.mtime) : std::unexpected(directory.error());
    if (!set) return about(std::move(set), "entry " + quoted(wanted.path));
  }
  return {};
}

}  // namespace keelson
