#include "monitor/pod/container_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "common/fd.h"

namespace keelson {

void write_state(JsonWriter& json, const ContainerState& state) {
  json.begin_object();
  json.key("id").value(state.id);
  json.key("state").value(state.exited ? "exited" : "running");
  json.key("pid").value(static_cast<int64_t>(state.pid));
  json.key("started_at").value(std::to_string(state.started_at));
  if (state.exited) {
    json.key("finished_at").value(std::to_string(state.finished_at));
    json.key("exit_code").value(state.exit_code);
    json.key("signal").value(state.signal);
    json.key("oom_killed").value(state.oom_killed);
  }
  json.key("tty").value(state.tty);
  json.end_object();
}

std::string state_json(const ContainerState& state) {
  JsonWriter json;
  write_state(json, state);
  return json.take();
}

Status write_exit_record(const std::string& directory, const ContainerState& state) {
  std::string path = directory + "/" + state.id + ".json";
  std::string temporary = directory + "/." + state.id + ".tmp";
  std::string text = state_json(state);
  Fd file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return fail_errno("create " + temporary);
  ssize_t written = write(file.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) {
    int error = written < 0 ? errno : ENOSPC;
    unlink(temporary.c_str());
    return fail_errno("write " + temporary, error);
  }
  // No fsync: /run is a tmpfs, and the record must outlive the daemon, not the machine.
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail_errno("rename " + temporary);
  return {};
}

Status remove_exit_record(const std::string& directory, const std::string& id) {
  std::string path = directory + "/" + id + ".json";
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("remove " + path);
  return {};
}

}  // namespace keelson
