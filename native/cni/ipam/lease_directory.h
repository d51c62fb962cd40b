// The leases of one network, on disk in the format of the reference host-local: a file named after each address, which
// contains the container's id, CR, LF and the interface's name; `last_reserved_ip.N` with the last address allocated from
// range set N; and `lock`, held with flock(2).
//
// Other files are not touched: an empty file named after an address reserves that address.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cni/invocation.h"
#include "cni/ip_address.h"
#include "common/error.h"
#include "common/fd.h"

namespace keelson {

struct Lease {
  std::string file_name;
  std::string container_id;
  std::string interface_name;  // empty in files of old versions

  bool belongs_to(const Invocation& invocation) const;
};

// Holds the lock for its lifetime.
class LeaseDirectory {
 public:
  // Creates what is missing. Kind::busy if another process holds the lock for too long.
  static Result<LeaseDirectory> open(const std::string& path);
  // The same for an existing directory; nothing if it does not exist.
  static Result<std::optional<LeaseDirectory>> open_existing(const std::string& path);

  const std::vector<Lease>& leases() const { return leases_; }
  // Whether a file of that name exists, lease or not.
  bool has_file(const std::string& name) const;

  // No address if it is not known.
  IpAddress last_reserved(size_t range_set) const;
  // False if the address is taken. Atomic: the lease exists completely afterwards or not at all.
  Result<bool> reserve(const IpAddress& address, const Invocation& owner, size_t range_set);
  Status release(const Lease& lease);

 private:
  LeaseDirectory(std::string path, Fd directory, Fd lock)
      : path_(std::move(path)), directory_(std::move(directory)), lock_(std::move(lock)) {}
  static Result<LeaseDirectory> lock_and_read(const std::string& path, Fd directory);
  Status read_all();

  std::string path_;
  Fd directory_;
  Fd lock_;
  std::vector<Lease> leases_;
  std::vector<std::string> file_names_;
};

}  // namespace keelson
