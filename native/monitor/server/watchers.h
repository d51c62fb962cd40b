// The connections that asked for `watch`: every event goes to each.
#pragma once

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "monitor/server/connection.h"

namespace keelson {

class Watchers {
 public:
  void add(const std::shared_ptr<Connection>& client) { clients_.push_back(client); }
  // A client that lets more than 64 KiB pile up is dropped; it reconnects and gets the whole state.
  void tell(std::string_view event) {
    std::erase_if(clients_, [&](const std::weak_ptr<Connection>& held) {
      auto client = held.lock();
      if (!client || !client->open_for_frames()) return true;
      client->send(FrameType::event, event);
      if (client->pending() <= max_pending) return false;
      client->close();
      return true;
    });
  }

 private:
  static constexpr size_t max_pending = 64 << 10;
  std::vector<std::weak_ptr<Connection>> clients_;
};

}  // namespace keelson
