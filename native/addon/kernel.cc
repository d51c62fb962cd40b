#include "addon/kernel.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U  // Linux 6.3, linux/memfd.h
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020  // Linux 6.3, linux/fcntl.h
#endif

namespace keelson {

namespace {

// With vm.memfd_noexec = 1, only MFD_EXEC creates an executable file; kernels before 6.3 do not know the flag.
Fd executable_memory_file(const char* name) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (!fd && errno == EINVAL) fd.reset(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  return fd;
}

// EBUSY is transient: the kernel waits for pages that it still references itself, but only for a sixth of a second.
constexpr int seal_attempts = 20;
constexpr useconds_t seal_pause_us = 50'000;

Status seal(int fd) {
  constexpr int content = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  for (int attempt = 1;; ++attempt) {
    if (::fcntl(fd, F_ADD_SEALS, content | F_SEAL_EXEC | F_SEAL_SEAL) == 0) return {};
    if (errno == EINVAL && ::fcntl(fd, F_ADD_SEALS, content | F_SEAL_SEAL) == 0) return {};
    if (errno != EBUSY || attempt == seal_attempts) return fail_errno("seal the copy");
    ::usleep(seal_pause_us);
  }
}

}  // namespace

Status unmount(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  if (errno == EINVAL || errno == ENOENT || errno == ENOTDIR) return {};
  return fail_errno("unmount");
}

Result<Fd> sealed_copy(const std::string& path) {
  Fd source(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (!source || ::fstat(source.get(), &info) != 0) return fail_errno("open");
  if (!S_ISREG(info.st_mode)) return fail(Kind::invalid, "copy to memory", "it is not a regular file");
  std::string name = path.substr(path.rfind('/') + 1).substr(0, 200);  // memfd names have at most 249 bytes
  Fd copy = executable_memory_file(name.c_str());
  if (!copy) return fail_errno("create a memory file");
  for (off_t left = info.st_size; left > 0;) {
    ssize_t count = ::sendfile(copy.get(), source.get(), nullptr, static_cast<size_t>(left));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("copy to memory");
    if (count == 0) return fail(Kind::state, "copy to memory", "it was truncated during the copy");
    left -= count;
  }
  TRY(seal(copy.get()));
  return copy;
}

uint64_t bounding_capabilities() {
  uint64_t set = 0;
  for (int capability = 0; capability < 64; ++capability) {
    int held = ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (held < 0) break;  // EINVAL: past the last capability this kernel knows
    if (held == 1) set |= uint64_t{1} << capability;
  }
  return set;
}

Status unblock_usr1() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  errno = pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  return errno == 0 ? Status{} : fail_errno("unblock SIGUSR1");
}

void limit_kept_memory() {
  // Larger buffers get their own mapping, which free() unmaps. Setting the threshold also stops glibc from raising it.
  mallopt(M_MMAP_THRESHOLD, 32 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
  // Otherwise each of a dozen threads has its own arena, with its own fragmentation.
  mallopt(M_ARENA_MAX, 1);
}

void reuse_freed_buffers() {
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  // More than is in flight between two garbage collections.
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

void trim_heap() { ::malloc_trim(0); }

}  // namespace keelson
