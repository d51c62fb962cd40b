#include "monitor/server/memory.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>

namespace keelson {

namespace {

constexpr size_t all_buffers = SharedBuffers::read_size + SharedBuffers::format_size;

// Lets go of the program's pages that are as in its file: code and constants. They stay in the page cache and come
// back by a fault for each 64 KiB.
int give_back_segments(dl_phdr_info* program, size_t, void*) {
  for (int i = 0; i < program->dlpi_phnum; ++i) {
    const auto& segment = program->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    madvise(reinterpret_cast<void*>(program->dlpi_addr + segment.p_vaddr), segment.p_memsz, MADV_DONTNEED);
  }
  return 1;  // the program itself comes first, libraries (of an instrumented build) stay
}

}  // namespace

SharedBuffers::~SharedBuffers() {
  if (base_ != nullptr) munmap(base_, all_buffers);
}

Status SharedBuffers::map() {
  void* base = mmap(nullptr, all_buffers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return fail_errno("map the shared buffers");
  // A huge page would be 2 MiB of memory for a few bytes of log.
  madvise(base, all_buffers, MADV_NOHUGEPAGE);
  base_ = static_cast<char*>(base);
  return {};
}

void SharedBuffers::give_back() { madvise(base_, all_buffers, MADV_DONTNEED); }

void limit_kept_memory() {
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
}

void give_back_memory(SharedBuffers& buffers) {
  buffers.give_back();
  malloc_trim(0);
  dl_iterate_phdr(give_back_segments, nullptr);
}

}  // namespace keelson
