// Marks for unnamed directories: those of a layer whose archive has files in them but no entry for them. Their metadata
// must come from the layers below (cover.h), so they and the directories on the way to them are marked.
#pragma once

#include "common/error.h"

namespace keelson {

enum class Mark {
  none,
  way,      // a directory below it may be unnamed
  unnamed,  // it is unnamed, and directories below it may be too
};

Mark mark_of(int directory);
Status mark_way(int directory);
Status mark_unnamed(int directory);
// Called when a later entry names the directory, or the directory of the layers below is hidden.
Status mark_named(int directory);

}  // namespace keelson
