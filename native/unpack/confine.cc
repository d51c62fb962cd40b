#include "unpack/confine.h"

#include <utility>

#include "unpack/box.h"
#include "unpack/privileges.h"
#include "unpack/system_calls.h"

namespace keelson {

Result<Fd> confine(Fd directory) {
  // Moving mounts needs the capabilities, and both need calls that the filter knows nothing of.
  Result<Fd> root = enter_box(std::move(directory));
  if (!root) return root;
  if (Status dropped = drop_privileges(); !dropped) return std::unexpected(dropped.error());
  if (Status filtered = allow_only_unpacking(); !filtered) return std::unexpected(filtered.error());
  return root;
}

}  // namespace keelson
