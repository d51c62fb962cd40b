// Drops resident pages of this process's own program.
#pragma once

namespace keelson {

// Drops the pages that are identical to the program's file, code and constants (madvise(2), MADV_DONTNEED). They stay in the
// page cache; what is still needed comes back with one minor fault per 64 KiB.
void drop_program_pages();

}  // namespace keelson
