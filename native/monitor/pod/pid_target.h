// The PID namespace of a neighbour, for a container that is to live in it: found when the container starts,
// for the neighbour may have been another process when the bundle was written.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/error.h"
#include "common/fd.h"

namespace keelson {

class PidTarget {
 public:
  PidTarget() = default;
  // `pid` is a child of ours that has not been reaped. For as long as this object lives `bundle`/pid-namespace,
  // which config.json names, leads to its namespace.
  static Result<PidTarget> resolve(std::string id, pid_t pid, const std::string& bundle);
  PidTarget(PidTarget&& other) noexcept = default;
  PidTarget& operator=(PidTarget&& other) noexcept;
  ~PidTarget() { drop(); }

  explicit operator bool() const { return static_cast<bool>(pidfd_); }
  const std::string& id() const { return id_; }
  int pidfd() const { return pidfd_.get(); }

 private:
  void drop();

  std::string id_;
  Fd pidfd_;
  Fd space_;
  std::string link_;  // empty: none was made
};

}  // namespace keelson
