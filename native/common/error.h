// Errors: the object, the step that failed, and the kernel's errno.
//
// Convention: the function that fails fills in step and errno; a caller that knows the object (container, pod, layer) adds
// it with `about`. No function logs an Error and also returns it: it is returned up to where it is reported to the client,
// once.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>

namespace keelson {

// The values of `kind` in PROTOCOL.md; `limit` is more than the caller (of the unpacker) or a memory limit allows.
enum class Kind { protocol, busy, not_found, exists, state, invalid, not_executable, system, timeout, limit };

std::string_view to_string(Kind kind);

struct Error {
  Kind kind = Kind::system;
  std::string step;     // "mount /proc", "write memory.max"
  std::string object;   // "container 3f…", empty until a caller adds it
  int error_number = 0; // errno, 0 if no system call failed
  std::string detail;   // free text; the whole reason if there is no errno

  // One sentence: "container 3f…: mount /proc: Permission denied".
  std::string message() const;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// An Error from errno; call it right after the failed system call.
inline std::unexpected<Error> fail_errno(std::string step, int error_number = errno) {
  return std::unexpected(Error{Kind::system, std::move(step), {}, error_number, {}});
}

inline std::unexpected<Error> fail(Kind kind, std::string step, std::string detail) {
  return std::unexpected(Error{kind, std::move(step), {}, 0, std::move(detail)});
}

// Sets the Error's object unless it already has one. For a Result: if it is an Error.
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

// Evaluates to the value of a Result (nothing for a Status), or returns its Error, unchanged, from the current function:
// `Fd file = TRY(open_file(path));`, `TRY(write_all(file, text));`.
#define TRY(expression)                                                                 \
  __extension__({                                                                       \
    auto tried_ = (expression);                                                         \
    if (!tried_) [[unlikely]] return std::unexpected(std::move(tried_.error()));        \
    *std::move(tried_);                                                                 \
  })
