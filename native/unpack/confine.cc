#include "unpack/confine.h"

#include <utility>

#include "unpack/box.h"
#include "unpack/privileges.h"
#include "unpack/system_calls.h"

namespace keelson {

Result<Fd> confine(Fd directory) {
  // Moving mounts needs the capabilities, and both need calls that the filter knows nothing of.
  Fd root = TRY(enter_box(std::move(directory)));
  TRY(drop_privileges());
  TRY(allow_only_unpacking());
  return root;
}

}  // namespace keelson
