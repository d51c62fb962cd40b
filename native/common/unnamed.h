// Directories of a layer that its archive has something in and no entry for. They are to look as in the layers below
// (cover.h), so they are marked, and so is the way to them.
#pragma once

#include "common/error.h"

namespace keelson {

enum class Mark {
  none,
  way,      // some directory below it may be unnamed
  unnamed,  // and so is it
};

Mark mark_of(int directory);
Status mark_way(int directory);
Status mark_unnamed(int directory);
// An entry names it after all, or the layers below have no such directory any more.
Status mark_named(int directory);

}  // namespace keelson
