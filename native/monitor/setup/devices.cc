// Device nodes and links. Source: runtime-spec config-linux.md (Default Devices, Dev symbolic links).
//
// In an image /dev may be a link to anywhere (CVE-2026-41579, CVE-2026-47766), and links may replace nodes
// (CVE-2019-18837): every directory is resolved inside the root, and nodes are created by a call that does not follow a
// link in the last component.
#include "monitor/setup/devices.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "monitor/setup/filesystem.h"
#include "monitor/setup/namespaces.h"

namespace keelson {

namespace {

const DeviceSpec default_devices[] = {
    {"/dev/null", 'c', 1, 3},   {"/dev/zero", 'c', 1, 5},    {"/dev/full", 'c', 1, 7},
    {"/dev/random", 'c', 1, 8}, {"/dev/urandom", 'c', 1, 9}, {"/dev/tty", 'c', 5, 0},
};

constexpr struct {
  const char* name;
  const char* target;
} links[] = {
    {"ptmx", "pts/ptmx"},
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
};

mode_t type_bits(char type) { return type == 'b' ? S_IFBLK : S_IFCHR; }

bool is_that_device(int directory, const char* name, mode_t type, dev_t number) {
  struct stat status;
  return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && (status.st_mode & S_IFMT) == type &&
         status.st_rdev == number;
}

dev_t number_of(const DeviceSpec& device) {
  return makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
}

void make_links(const Child& child, int root) {
  const Fd dev = child.check(make_directory_in_root(root, "/dev"), Step::make_device, "/dev");
  for (const auto& link : links) {
    if (symlinkat(link.target, dev.get(), link.name) != 0 && errno != EEXIST) child.die(Step::make_device, link.name);
  }
}

void make_node(const Child& child, int root, const DeviceSpec& device) {
  const char* path = device.path.c_str();
  const char* name = nullptr;
  const Fd directory = child.check(make_parent_in_root(root, path, &name), Step::make_device, path);
  const mode_t type = type_bits(device.type);
  const dev_t number = number_of(device);
  if (mknodat(directory.get(), name, type | device.mode, number) != 0) {
    if (errno != EEXIST) child.die(Step::make_device, path);
    if (!is_that_device(directory.get(), name, type, number)) child.die(Step::make_device, path, EEXIST);
  }
  if (device.uid == 0 && device.gid == 0) return;
  child.check(fchownat(directory.get(), name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW), Step::make_device, path);
}

// A pod may mount something in place of a device (/dev/urandom at /dev/random).
bool is_mounted_over(const ContainerSpec& spec, const DeviceSpec& device) {
  return std::ranges::any_of(spec.mounts, [&](const MountSpec& mount) { return mount.destination == device.path; });
}

// A device that the spec has at the same path replaces a default one.
bool is_replaced(const ContainerSpec& spec, const DeviceSpec& device) {
  return std::ranges::find(spec.devices, device.path, &DeviceSpec::path) != spec.devices.end();
}

}  // namespace

const MountSpec* foreign_dev(const ContainerSpec& spec) {
  const MountSpec* found = nullptr;
  for (const MountSpec& mount : spec.mounts) {
    if ((mount.flags & MS_BIND) && (mount.destination == "/dev" || mount.destination == "/dev/")) found = &mount;
  }
  return found;
}

void make_devices(const Child& child, int root, const ContainerSpec& spec) {
  auto make = [&](const DeviceSpec& device) {
    if (!is_mounted_over(spec, device)) make_node(child, root, device);
  };
  for (const DeviceSpec& device : default_devices) {
    if (!is_replaced(spec, device)) make(device);
  }
  for (const DeviceSpec& device : spec.devices) make(device);
  make_links(child, root);
}

std::vector<OutsideDevice> plan_outside_devices(const ContainerSpec& spec, const std::vector<IdMapping>& uids,
                                                const std::vector<IdMapping>& gids) {
  std::vector<OutsideDevice> devices;
  auto plan = [&](DeviceSpec device) {
    if (is_mounted_over(spec, device)) return;
    device.uid = host_id(uids, device.uid);
    device.gid = host_id(gids, device.gid);
    devices.push_back({std::move(device), "device-" + std::to_string(devices.size()), {}});
  };
  for (const DeviceSpec& device : default_devices) {
    if (!is_replaced(spec, device)) plan(device);
  }
  for (const DeviceSpec& device : spec.devices) plan(device);
  return devices;
}

void make_outside_devices(const Child& child, int scratch, std::vector<OutsideDevice>& devices) {
  for (OutsideDevice& device : devices) {
    const DeviceSpec& spec = device.spec;
    const char* name = device.name.c_str();
    auto check = [&](auto made) { return child.check(std::move(made), Step::make_device, spec.path.c_str()); };
    check(mknodat(scratch, name, type_bits(spec.type) | spec.mode, number_of(spec)));
    check(fchownat(scratch, name, spec.uid, spec.gid, AT_SYMLINK_NOFOLLOW));
    device.tree = check(clone_tree(scratch, name, false));
  }
}

void bind_devices(const Child& child, int root, const std::vector<OutsideDevice>& devices) {
  for (const OutsideDevice& device : devices) {
    const char* path = device.spec.path.c_str();
    const Fd target = child.check(make_file_in_root(root, path), Step::make_device, path);
    child.check(attach_mount(device.tree.get(), target.get()), Step::make_device, path);
  }
  make_links(child, root);
}

}  // namespace keelson
