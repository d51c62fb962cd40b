// The leases of one network, on disk as the field's host-local keeps them: a file for each address, by its name, with
// the container's id, CR, LF and the interface's name in it; `last_reserved_ip.N` with what range set N gave out last;
// and `lock`, held with flock(2).
//
// Files of anybody else are left alone: an empty file of an address's name keeps that address from being handed out.
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

// The lock is held for as long as this lives.
class LeaseDirectory {
 public:
  // Makes what is missing. Kind::busy when another holds the lock for too long.
  static Result<LeaseDirectory> open(const std::string& path);
  // The same of a directory that there is; nothing otherwise.
  static Result<std::optional<LeaseDirectory>> open_existing(const std::string& path);

  const std::vector<Lease>& leases() const { return leases_; }
  // Whether a file of that name is there, a lease or not.
  bool has_file(const std::string& name) const;

  // No address when it is not known.
  IpAddress last_reserved(size_t range_set) const;
  // False if the address is taken. Either the whole lease is there afterwards or nothing of it, whatever happens.
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
