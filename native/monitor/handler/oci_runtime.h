// Runs an OCI runtime binary (runc, crun …) and turns its failure into an Error.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "monitor/handler/program.h"
#include "monitor/handler/handler.h"

namespace keelson {

class OciRuntime {
 public:
  // `directory` takes the files of each run, which are removed after it.
  OciRuntime(Context& context, std::string binary, std::string root, std::string directory)
      : context_(context), binary_(std::move(binary)), root_(std::move(root)), directory_(std::move(directory)) {}

  // Runs `<binary> --root … <arguments>` for at most 30 s. On failure the Error has the runtime's own words.
  std::weak_ptr<Attempt> run(std::vector<std::string> arguments, ProgramStdio stdio, DoneStatus done);
  // A path in the directory that no earlier run has had.
  std::string fresh_path(std::string_view suffix);

 private:
  Context& context_;
  std::string binary_;
  std::string root_;
  std::string directory_;
  int runs_ = 0;
};

}  // namespace keelson
