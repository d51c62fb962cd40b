// A plugin: a function for each of the spec's commands.
#pragma once

#include <string>

#include "cni/invocation.h"
#include "cni/plugin_error.h"

namespace keelson {

struct Plugin {
  const char* name;                                // a configuration's `type`
  Outcome<std::string> (*add)(const Invocation&);  // the result's JSON
  Done (*del)(const Invocation&);
  Done (*check)(const Invocation&);
  Done (*status)(const Invocation&);
  Done (*gc)(const Invocation&);
};

}  // namespace keelson
