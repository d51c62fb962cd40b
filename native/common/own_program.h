// The pages of the program that this process runs.
#pragma once

namespace keelson {

// Unmaps those that are as in its file, code and constants (madvise(2), MADV_DONTNEED). They stay in the page cache, and
// what is still needed comes back by a minor fault for each 64 KiB.
void let_go_of_program();

}  // namespace keelson
