// A container's state as PROTOCOL.md's ContainerState, and the file that keeps it after the exit.
#pragma once

#include <sys/types.h>

#include <string>

#include "common/error.h"
#include "common/json.h"

namespace keelson {

struct ContainerState {
  std::string id;
  bool exited = false;
  pid_t pid = 0;
  int64_t started_at = 0;   // nanoseconds since the epoch
  int64_t finished_at = 0;  // these four only when exited
  int exit_code = 0;
  int signal = 0;
  bool oom_killed = false;
  bool tty = false;
};

void write_state(JsonWriter& json, const ContainerState& state);
std::string state_json(const ContainerState& state);

// Makes `directory`/<id>.json appear whole: a temporary file, renamed into place.
Status write_exit_record(const std::string& directory, const ContainerState& state);
// Missing is fine.
Status remove_exit_record(const std::string& directory, const std::string& id);

}  // namespace keelson
