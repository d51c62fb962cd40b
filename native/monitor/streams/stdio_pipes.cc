#include "monitor/streams/stdio_pipes.h"

#include <fcntl.h>
#include <unistd.h>

namespace keelson {

namespace {

// A log reader that is woken once for 256 KiB costs a quarter of one woken for 64.
constexpr int output_pipe_size = 256 << 10;

struct Pipe {
  Fd read_end, write_end;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno("make a pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Status make_nonblocking(const Fd& fd) {
  // Of a pipe each end has flags of its own, so the process's end keeps blocking.
  if (fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK) != 0) return fail_errno("make a pipe non-blocking");
  return {};
}

}  // namespace

Result<StdioPipes> make_stdio_pipes(bool with_input) {
  StdioPipes pipes;
  if (with_input) {
    auto input = make_pipe();
    if (!input) return std::unexpected(input.error());
    pipes.theirs.in = std::move(input->read_end);
    pipes.in = std::move(input->write_end);
    if (Status made = make_nonblocking(pipes.in); !made) return std::unexpected(made.error());
  }
  for (auto [ours, theirs] : {std::pair(&pipes.out, &pipes.theirs.out), std::pair(&pipes.err, &pipes.theirs.err)}) {
    auto output = make_pipe();
    if (!output) return std::unexpected(output.error());
    *ours = std::move(output->read_end);
    *theirs = std::move(output->write_end);
    if (Status made = make_nonblocking(*ours); !made) return std::unexpected(made.error());
    // Past the user's quota of pipe memory the kernel refuses, and 64 KiB serves too.
    fcntl(ours->get(), F_SETPIPE_SZ, output_pipe_size);
  }
  return pipes;
}

}  // namespace keelson
