// The monitor's own oom_score_adj: it shall be the last to be killed for want of memory, its children not.
#pragma once

#include <string>

namespace keelson {

class OomScore {
 public:
  // Lowers it to -999. Without CAP_SYS_RESOURCE the kernel refuses, and everything stays as it was.
  void lower();

  // While one lives the score is what it was: a process born now inherits that, unless its spec says otherwise.
  class Original {
   public:
    explicit Original(const OomScore& score);
    ~Original();
    Original(const Original&) = delete;
    Original& operator=(const Original&) = delete;

   private:
    const OomScore& score_;
  };

 private:
  std::string original_;  // empty while it is not lowered
};

}  // namespace keelson
