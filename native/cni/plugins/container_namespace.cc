#include "cni/plugins/container_namespace.h"

namespace keelson {

Outcome<Fd> open_container_namespace(const Invocation& invocation) {
  Result<Fd> container = open_network_namespace(invocation.netns);
  if (!container) return refuse(ErrorCode::invalid_namespace, container.error().message());
  if (invocation.own_namespace_allowed) return std::move(*container);
  Fd own = TRY(open_own_network_namespace());
  if (!is_same_namespace(own, *container)) return std::move(*container);
  return refuse(ErrorCode::invalid_namespace, "plugin's netns and netns from CNI_NETNS should not be the same");
}

Outcome<std::optional<Fd>> open_remaining_namespace(const Invocation& invocation) {
  if (invocation.netns.empty()) return std::nullopt;
  Result<Fd> found = open_network_namespace(invocation.netns);
  if (!found && found.error().kind == Kind::not_found) return std::nullopt;
  return TRY(open_container_namespace(invocation));
}

}  // namespace keelson
