#include "monitor/cgroup/oom_score.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "monitor/server/monitor_log.h"

namespace keelson {

namespace {

constexpr const char* file_name = "/proc/self/oom_score_adj";
constexpr const char* lowered = "-999";

bool write_score(const std::string& score) {
  Fd file(open(file_name, O_WRONLY | O_CLOEXEC));
  return file && write(file.get(), score.data(), score.size()) == static_cast<ssize_t>(score.size());
}

}  // namespace

void OomScore::lower() {
  char score[16];
  Fd file(open(file_name, O_RDONLY | O_CLOEXEC));
  ssize_t size = file ? read(file.get(), score, sizeof score) : 0;
  if (size <= 0 || !write_score(lowered)) return;
  original_.assign(score, static_cast<size_t>(size));
}

OomScore::Original::Original(const OomScore& score) : score_(score) {
  if (!score_.original_.empty() && !write_score(score_.original_)) complain("raise oom_score_adj for a child: failed");
}

OomScore::Original::~Original() {
  if (!score_.original_.empty() && !write_score(lowered)) complain("lower oom_score_adj again: failed");
}

}  // namespace keelson
