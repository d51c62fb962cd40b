// Removes a directory tree of any depth without following links, in bounded memory.
#pragma once

#include "common/error.h"

namespace keelson {

// `name` in `parent` must be a directory. Nobody else may work in the tree meanwhile.
Status remove_tree(int parent, const char* name);

}  // namespace keelson
