// What the monitor keeps of its memory: an idle pod costs only what it must remember.
#pragma once

#include <cstddef>

#include "common/error.h"

namespace keelson {

// Two large buffers that all events of the loop share: nothing is kept in them from one event to the next.
class SharedBuffers {
 public:
  static constexpr size_t read_size = 256 << 10;
  static constexpr size_t format_size = 448 << 10;

  SharedBuffers() = default;
  SharedBuffers(const SharedBuffers&) = delete;
  SharedBuffers& operator=(const SharedBuffers&) = delete;
  ~SharedBuffers();

  Status map();
  void give_back();

  char* for_reading() { return base_; }
  char* for_formatting() { return base_ + read_size; }

 private:
  char* base_ = nullptr;
};

// Makes malloc return what is freed, so that give_back_memory() has an effect.
void limit_kept_memory();

// Gives back what a burst of work took: the pages of the buffers, of the heap, and of the program's own code.
void give_back_memory(SharedBuffers& buffers);

}  // namespace keelson
