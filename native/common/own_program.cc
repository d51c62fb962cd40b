#include "common/own_program.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <span>

namespace keelson {

namespace {

int drop_unwritten(dl_phdr_info* object, size_t, void*) {
  const uintptr_t page = static_cast<uintptr_t>(::getpagesize());
  for (const ElfW(Phdr)& segment : std::span(object->dlpi_phdr, object->dlpi_phnum)) {
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const uintptr_t begin = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
    const uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
  return 1;  // the first object is the program itself
}

}  // namespace

void drop_program_pages() { ::dl_iterate_phdr(drop_unwritten, nullptr); }

}  // namespace keelson
