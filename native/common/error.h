// What a failed step looks like: which object, which step, what the kernel said.
//
// Convention: the function that fails fills in step and errno; whoever knows the
// object (container, pod, layer) adds it on the way up with `about`. Nobody logs
// and returns: an Error is either returned or answered to the client, once.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>

namespace keelson {

// Same words as `kind` in PROTOCOL.md; `limit` (more than the caller allowed) is only the unpacker's.
enum class Kind { protocol, busy, not_found, exists, state, invalid, not_executable, system, timeout, limit };

std::string_view to_string(Kind kind);

struct Error {
  Kind kind = Kind::system;
  std::string step;     // "mount /proc", "write memory.max"
  std::string object;   // "container 3f…", empty until somebody knows
  int error_number = 0; // errno, 0 when the kernel had no part in it
  std::string detail;   // free words; for kinds without an errno the whole reason

  // One sentence: "container 3f…: mount /proc: Permission denied".
  std::string message() const;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// An Error from errno; call it right behind the failed syscall.
inline std::unexpected<Error> fail_errno(std::string step, int error_number = errno) {
  return std::unexpected(Error{Kind::system, std::move(step), {}, error_number, {}});
}

inline std::unexpected<Error> fail(Kind kind, std::string step, std::string detail) {
  return std::unexpected(Error{kind, std::move(step), {}, 0, std::move(detail)});
}

// The same Error, about `object` unless it is about something already; the same Result, should it be an Error.
inline Error about(Error error, std::string_view object) {
  if (error.object.empty()) error.object = object;
  return error;
}

inline std::unexpected<Error> about(std::unexpected<Error> failure, std::string_view object) {
  return std::unexpected(about(std::move(failure.error()), object));
}

template <typename T>
Result<T> about(Result<T> result, std::string_view object) {
  if (!result) return std::unexpected(about(std::move(result.error()), object));
  return result;
}

}  // namespace keelson

// The value of a Result, or the end of this function with its Error; of a Status nothing, or that:
// `Fd file = TRY(open_file(path));`, `TRY(write_all(file, text));`. The Error goes up as it is.
#define TRY(expression)                                                                 \
  __extension__({                                                                       \
    auto tried_ = (expression);                                                         \
    if (!tried_) [[unlikely]] return std::unexpected(std::move(tried_.error()));        \
    *std::move(tried_);                                                                 \
  })
